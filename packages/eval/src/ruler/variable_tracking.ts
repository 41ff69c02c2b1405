/** Variable tracking: a value is handed from variable to variable, and all that hold it are asked for. */
import { reprOfList } from '../python/literal.js';
import { words } from '../python/text.js';
import type { Draft, RulerContext, RulerSample } from './context.js';
import { fitted } from './context.js';
import { filled } from './templates.js';

const ANSWER_TOKENS = 30;
const HOPS = 4;
const CAPITALS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
const NOISE = 'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n';
const QUESTION =
  'Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}\n' +
  'Question: Find all variables that are assigned the value {query} in the text above.';
// The misspelling is the original's.
const ANSWER =
  ' Answer: According to the chain(s) of variable assignment in the text above, {num_v} variables are assgined the value {query}, they are: ';

export async function writeVariables(name: string, context: RulerContext): Promise<RulerSample[]> {
  const flat = words(QUESTION).slice(0, -1).join(' ');
  const isHarness = context.form === 'harness';
  const [shown] = await fitted(
    { ...context, maxLength: 500, samples: 1 },
    {
      task: name,
      step: 5,
      answerTokens: ANSWER_TOKENS,
      make: (units) => draft(isHarness ? QUESTION : flat, 3, units, context),
    },
  );
  const example = `${shown!.prompt} ${shown!.outputs.join(' ')}\n\n`;
  const samples = await fitted(context, {
    task: name,
    step: 10,
    answerTokens: ANSWER_TOKENS,
    extraTokens: await context.count(example),
    make: (units) => draft(QUESTION, 5, units, context),
    after: (made) => ({
      ...made,
      prompt: `${isHarness ? renamed(example, context) : ` ${example}`}\n\n${made.prompt}`,
    }),
  });
  return samples;
}

function draft(question: string, letters: number, units: number, { form, random, numpy }: RulerContext): Draft {
  const name = () => random.choices(CAPITALS, letters).join('');
  const variables = Array.from({ length: HOPS + 1 }, name);
  while (new Set(variables).size < HOPS + 1) variables.push(name());
  const own = variables.slice(0, HOPS + 1);
  const value = numpy.randint(10000, 99999);
  const chain = [`VAR ${own[0]} = ${value}`, ...own.slice(1).map((one, j) => `VAR ${one} = VAR ${own[j]} `)];
  let lines = Array.from({ length: units }, () => NOISE);
  if (lines.length <= chain.length) {
    lines = lines.flatMap((line) => line.split('.')).map((part) => (part.trim() === '' ? part : `${part}.`));
  }
  const places = random.sampleIndices(lines.length, chain.length).sort((a, b) => a - b);
  for (const [j, place] of places.entries()) lines.splice(place + j, 0, chain[j]!);
  const text = lines.join(' ').replaceAll('. \n', '.\n');
  // The harness's joint takes the space at the end away.
  const begun = filled(form === 'harness' && letters === 5 ? ANSWER.trimEnd() : ANSWER, {
    query: value,
    num_v: HOPS + 1,
  });
  const asked = filled(question, { context: text, query: value });
  const measured = asked + filled(ANSWER, { query: value, num_v: HOPS + 1 });
  return { prompt: asked + begun, begun, outputs: own, counted: `${measured} ${reprOfList(own)}`, measured };
}

/** The example with other names, which are drawn anew for every sample. */
function renamed(example: string, { random }: RulerContext): string {
  const end = ANSWER.slice(-10);
  const names = words(example.slice(example.indexOf(end) + end.length));
  return names.reduce((text, name) => text.replaceAll(name, random.choices(CAPITALS, name.length).join('')), example);
}
