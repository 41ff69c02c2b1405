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
// The misspelling is the original's; NVIDIA has mended it since.
const ANSWER =
  ' Answer: According to the chain(s) of variable assignment in the text above, {num_v} variables are assgined the value {query}, they are: ';

/** The value of the example, which each text replaces by one of its own. */
const EXAMPLE_VALUE = 12345;

export async function writeVariables(name: string, context: RulerContext): Promise<RulerSample[]> {
  const flat = words(QUESTION).slice(0, -1).join(' ');
  const { form } = context;
  const isOld = form === 'nvidia-2024-10';
  const [shown] = await fitted(
    { ...context, maxLength: 500, samples: 1 },
    {
      task: name,
      step: 5,
      answerTokens: form === 'nvidia' ? 0 : ANSWER_TOKENS,
      make: (units) => draft(isOld ? flat : QUESTION, 3, units, context),
    },
  );
  const example = `${shown!.prompt} ${shown!.outputs.join(' ')}\n\n`;
  const samples = await fitted(context, {
    task: name,
    // NVIDIA's present generator takes shorter steps for short texts.
    step: form === 'nvidia' && context.maxLength < 4096 ? 5 : 10,
    answerTokens: ANSWER_TOKENS,
    extraTokens: await context.count(example),
    make: (units) => draft(QUESTION, 5, units, context),
    after: (made) => ({
      ...made,
      prompt: `${isOld ? ` ${example}` : renamed(example, context)}${form === 'nvidia' ? '' : '\n\n'}${made.prompt}`,
    }),
  });
  return samples;
}

function draft(question: string, letters: number, units: number, { form, random, numpy }: RulerContext): Draft {
  const name = () => random.choices(CAPITALS, letters).join('');
  const variables = Array.from({ length: HOPS + 1 }, name);
  while (new Set(variables).size < HOPS + 1) variables.push(name());
  const own = variables.slice(0, HOPS + 1);
  const value = form === 'nvidia' && letters === 3 ? EXAMPLE_VALUE : numpy.randint(10000, 99999);
  const chain = [`VAR ${own[0]} = ${value}`, ...own.slice(1).map((one, j) => `VAR ${one} = VAR ${own[j]} `)];
  // NVIDIA's present texts have the line feeds between the lines, not in them.
  const [noise, between] = form === 'nvidia' ? [NOISE.trimEnd(), '\n'] : [NOISE, ' '];
  let lines = Array.from({ length: units }, () => noise);
  if (lines.length <= chain.length) {
    lines = lines.flatMap((line) => line.split('.')).map((part) => (part.trim() === '' ? part : `${part}.`));
  }
  const places = random.sampleIndices(lines.length, chain.length).sort((a, b) => a - b);
  for (const [j, place] of places.entries()) lines.splice(place + j, 0, chain[j]!);
  const text = lines.join(between).replaceAll('. \n', '.\n');
  const answer = form === 'nvidia' ? ANSWER.replace('assgined', 'assigned') : ANSWER;
  // The harness's joint takes the space at the end away.
  const begun = filled(form === 'harness' && letters === 5 ? answer.trimEnd() : answer, {
    query: value,
    num_v: HOPS + 1,
  });
  const asked = filled(question, { context: text, query: value });
  const measured = asked + filled(answer, { query: value, num_v: HOPS + 1 });
  return { prompt: asked + begun, begun, outputs: own, counted: `${measured} ${reprOfList(own)}`, measured };
}

/** The example with other names, and in NVIDIA's form with another value, which are drawn anew for every sample. */
function renamed(example: string, { form, random, numpy }: RulerContext): string {
  const end = ANSWER.slice(-10);
  const names = words(example.slice(example.indexOf(end) + end.length));
  const text = form === 'nvidia' ? example.replaceAll(`${EXAMPLE_VALUE}`, `${numpy.randint(10000, 99999)}`) : example;
  return names.reduce((text, name) => text.replaceAll(name, random.choices(CAPITALS, name.length).join('')), text);
}
