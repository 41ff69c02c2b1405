/** Needles in a haystack: keys with values, hidden between sentences, repeated noise or other needles. */
import type { Draft, RulerContext, RulerSample } from './context.js';
import { fitted, shuffled } from './context.js';
import { filled } from './templates.js';

export type NeedleKind = 'numbers' | 'words' | 'uuids';

/** What is hidden, and in what. */
export interface NeedleTask {
  haystack: 'noise' | 'essay' | 'needle';
  key: NeedleKind;
  value: NeedleKind;
  keys: number;
  values: number;
  queries: number;
}

export const ANSWER_TOKENS = 128;

const NOISE = 'The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.';
const QUESTION =
  'Some special magic {type} are hidden within the following text. Make sure to memorize it. I will quiz you about the {type} afterwards.\n' +
  '{context}\nWhat are all the special magic {type} for {query} mentioned in the provided text?';
const ANSWER = ' The special magic {type} for {query} mentioned in the provided text are';

/** round(linspace(0, 100, 40)), halves to the even number */
const DEPTHS = Array.from({ length: 40 }, (_, i) => {
  const depth = i === 39 ? 100 : i * (100 / 39);
  const down = Math.floor(depth);
  return depth - down === 0.5 ? down + (down % 2) : Math.round(depth);
});

export function writeNeedles(name: string, task: NeedleTask, context: RulerContext): Promise<RulerSample[]> {
  const essay = task.haystack === 'essay';
  const step = essay ? 500 : context.maxLength < 4096 ? 5 : 25;
  return fitted(context, {
    task: name,
    step,
    answerTokens: ANSWER_TOKENS,
    downToOne: context.form === 'harness',
    ...(essay ? { limit: { units: context.materials.essay().length, after: 'counting' as const } } : {}),
    make: (units) => draft(task, units, context),
  });
}

function draft(task: NeedleTask, units: number, context: RulerContext): Draft {
  const { random } = context;
  const keys: string[] = [];
  const values: string[][] = [];
  const needles: string[] = [];
  for (let k = 0; k < Math.max(task.keys, task.queries); k++) {
    const key = drawn(task.key, context);
    keys.push(key);
    values.push([]);
    for (let v = 0; v < task.values; v++) {
      const value = drawn(task.value, context);
      values[k]!.push(value);
      needles.push(needle(task.value, key, value));
    }
  }
  const hidden = shuffled(needles);
  const text =
    task.haystack === 'essay' ? amongSentences(hidden, units, context) : amongLines(hidden, units, task, context);
  const asked = random.sampleIndices(keys.length, task.queries);
  const queries = asked.map((k) => keys[k]!);
  const outputs = asked.flatMap((k) => values[k]!);
  const query = queries.length > 1 ? `${queries.slice(0, -1).join(', ')}, and ${queries.at(-1)}` : queries[0]!;
  const single = task.queries * task.values === 1;
  const [question, answer] = single ? [inSingular(QUESTION), inSingular(ANSWER)] : [QUESTION, ANSWER];
  const type = single ? task.value.slice(0, -1) : task.value;
  const begun = filled(answer, { type, query });
  const prompt = filled(question, { type, context: text, query }) + begun;
  return { prompt, begun, outputs, counted: prompt + outputs.join(' ') };
}

/** As the original turns its template round: by replacing text in this order. */
function inSingular(template: string): string {
  return template
    .replaceAll('Some', 'A')
    .replaceAll('are all', 'is')
    .replaceAll('are', 'is')
    .replaceAll('answers', 'answer');
}

function needle(type: NeedleKind, key: string, value: string): string {
  return `One of the special magic ${type} for ${key} is: ${value}.`;
}

function drawn(kind: NeedleKind, { random, materials }: RulerContext): string {
  switch (kind) {
    case 'numbers':
      return `${random.randint(1_000_000, 9_999_999)}`;
    case 'words': {
      const words = materials.needleWords();
      return words.at(random.randbelow(words.length));
    }
    case 'uuids':
      return uuid4(random.getrandbigbits(128));
  }
}

/** A UUID of 128 random bits, of which six say version 4 and its variant. */
export function uuid4(bits: bigint): string {
  const marked = (bits & ~(0xf000n << 64n) & ~(0xc000n << 48n)) | (0x4000n << 64n) | (0x8000n << 48n);
  const digits = marked.toString(16).padStart(32, '0');
  return [digits.slice(0, 8), digits.slice(8, 12), digits.slice(12, 16), digits.slice(16, 20), digits.slice(20)].join(
    '-',
  );
}

function amongSentences(needles: readonly string[], words: number, { random, materials }: RulerContext): string {
  const sentences = materials.sentences(words);
  const places = random
    .sample(DEPTHS, needles.length)
    .map((depth) => Math.trunc(sentences.length * (depth / 100)))
    .sort((a, b) => a - b);
  const bounds = [0, ...places, sentences.length];
  const runs = bounds.slice(1).map((end, i) => sentences.slice(bounds[i]!, end).join(' '));
  return runs.flatMap((run, i) => (i < needles.length ? [run, needles[i]!] : [run])).join(' ');
}

function amongLines(needles: readonly string[], units: number, task: NeedleTask, context: RulerContext): string {
  const lines = Array.from({ length: units }, () => {
    if (task.haystack === 'noise') return NOISE;
    const key = drawn(task.key, context);
    return needle(task.value, key, drawn(task.value, context));
  });
  const places = context.random.sampleIndices(units, needles.length).sort((a, b) => b - a);
  for (const [i, place] of places.entries()) lines.splice(place, 0, needles[i]!);
  return lines.join('\n');
}
