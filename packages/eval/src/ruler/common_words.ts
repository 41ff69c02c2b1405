/** Common words: a numbered list in which ten words come more often than the others. */
import { PythonRandom } from '../python/random.js';
import type { Draft, RulerContext, RulerSample } from './context.js';
import { fitted, SHUFFLE_SEED } from './context.js';
import { filled } from './templates.js';

const ANSWER_TOKENS = 120;
const COMMON = 10;
const QUESTION =
  'Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear most often.\n' +
  '{context}\nQuestion: What are the 10 most common words in the above list?';
const ANSWER = ' Answer: The top 10 words that appear most often in the list are:';

export function writeCommonWords(name: string, context: RulerContext): Promise<RulerSample[]> {
  const { form, random, materials, maxLength } = context;
  const isHarness = form === 'harness';
  // The harness's generator of shuffles goes on from list to list; NVIDIA's begins anew.
  const running = new PythonRandom(SHUFFLE_SEED);
  const shuffle = (items: string[]) => (isHarness ? running : new PythonRandom(SHUFFLE_SEED)).shuffle(items);
  const all = [...materials.allWords()];
  shuffle(all);
  const list = (words: number, often: number, seldom: number) => {
    const drawn = random.sample(all, words);
    const common = drawn.slice(0, COMMON);
    const repeated = (items: readonly string[], times: number) => Array.from({ length: times }, () => items).flat();
    const whole = [...repeated(common, often), ...repeated(drawn.slice(COMMON), seldom)];
    shuffle(whole);
    return { text: numbered(whole), common };
  };
  const short = maxLength < 4096;
  const make = (words: number): Draft => {
    const shown = short ? list(20, 3, 1) : list(40, 10, 3);
    const own = short ? list(words, 6, 1) : list(words, 30, 3);
    const example =
      filled(QUESTION + ANSWER, { context: shown.text }) + (form === 'nvidia' ? ' ' : '') + numbered(shown.common);
    const question = filled(QUESTION, { context: own.text });
    const prompt = `${example}\n${question}${ANSWER}`;
    const counted = `${prompt} ${numbered(own.common)}`;
    // The harness leaves the example out, and joins what is left by blank lines.
    const begun = isHarness ? `\n\n${ANSWER.trim()}` : ANSWER;
    return {
      prompt: isHarness ? question.trim() + begun : prompt,
      begun,
      outputs: own.common,
      counted,
      measured: isHarness ? question + ANSWER : prompt,
    };
  };
  return fitted(context, {
    task: name,
    step: 10,
    guess: { units: Math.min(4096, all.length), factor: 2 },
    answerTokens: ANSWER_TOKENS,
    downToOne: isHarness,
    limit: { units: all.length, after: 'growing' },
    make,
  });
}

function numbered(words: readonly string[]): string {
  return words.map((word, i) => `${i + 1}. ${word}`).join(' ');
}
