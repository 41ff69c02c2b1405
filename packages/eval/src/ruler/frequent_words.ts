/** Frequent words: made-up words by Zipf's law, of which the three after the most frequent are asked for. */
import type { RulerContext, RulerSample } from './context.js';
import { shuffled } from './context.js';
import { filled } from './templates.js';

const ANSWER_TOKENS = 50;
const LETTERS = 'abcdefghijklmnopqrstuvwxyz';
const WORD_LENGTH = 6;
/** ζ(2), of the exponent α = 2 */
const ZETA = 1.6449340668482264;
const QUESTION =
  'Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared coded words. ' +
  "{context}\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently appeared words in the above coded text?";
const ANSWER = ' Answer: According to the coded text above, the three most frequently appeared words are:';

/** As in the original, the answer's tokens come on top of the length; NVIDIA has taken them off since. */
export async function writeFrequentWords(context: RulerContext): Promise<RulerSample[]> {
  const { count, samples } = context;
  const maxLength = roomOf(context);
  const step = Math.floor(maxLength / 32);
  const written = (vocabulary: readonly string[], words: number) => textOf(vocabulary, words);
  let words = Math.floor(maxLength / WORD_LENGTH);
  const first = vocabularyOf(context);
  while ((await count(written(first, words))) < maxLength) words += step;
  words -= step;
  const made: RulerSample[] = [];
  for (let sample = 0; sample < samples; sample++) {
    const vocabulary = vocabularyOf(context);
    let used = words;
    let prompt = written(vocabulary, used);
    let tokens = await count(prompt);
    while (tokens > maxLength) {
      used -= step;
      prompt = written(vocabulary, used);
      tokens = await count(prompt);
    }
    made.push({ prompt, begun: ANSWER, outputs: vocabulary.slice(1, 4), length: tokens + ANSWER_TOKENS });
  }
  return made;
}

function roomOf({ form, maxLength }: RulerContext): number {
  return form === 'nvidia' ? maxLength - ANSWER_TOKENS : maxLength;
}

function vocabularyOf(context: RulerContext): string[] {
  const { random } = context;
  const size = Math.floor(roomOf(context) / 50);
  const word = () => random.choices(LETTERS, WORD_LENGTH).join('');
  const drawn = new Set(Array.from({ length: size }, word));
  while (drawn.size < size) drawn.add(word());
  const words = shuffled([...drawn].sort());
  words[0] = '...'; // the most frequent one is noise
  return words;
}

function textOf(vocabulary: readonly string[], words: number): string {
  const all = vocabulary.flatMap((word, r) => {
    const times = Math.floor((words * (1 / ((r + 1) * (r + 1)))) / ZETA);
    return Array.from({ length: times }, () => word);
  });
  return filled(QUESTION, { context: shuffled(all).join(' ') }) + ANSWER;
}
