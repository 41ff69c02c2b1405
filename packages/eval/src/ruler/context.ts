/**
 * What the makers of RULER's texts share (Hsieh et al. 2024, https://arxiv.org/abs/2404.06654): random draws whose order is
 * part of the format, tokens counted by the model's tokenizer, and how many units of filler fit a length.
 */
import { UserError } from '@stickbreaking/base';
import type { NumpyRandom } from '../python/numpy_random.js';
import { PythonRandom } from '../python/random.js';
import type { RulerMaterials } from './materials.js';

/**
 * Whose texts: NVIDIA's generator of October 2024 (which the stick-breaking paper can have used), its present one, or the
 * port that lm-evaluation-harness has since 0.4.9. No two of them make the same texts.
 */
export const rulerForms = ['nvidia-2024-10', 'nvidia', 'harness'] as const;
export type RulerForm = (typeof rulerForms)[number];

/** One text with its question. */
export interface RulerSample {
  /** All that the model reads, the beginning of the answer included. */
  prompt: string;
  /** The beginning of the answer, with which the prompt ends. */
  begun: string;
  /** What the answer must hold. */
  outputs: readonly string[];
  /** Tokens of the prompt and of the answer's room. */
  length: number;
}

/** What a maker of texts draws on. */
export interface RulerContext {
  form: RulerForm;
  random: PythonRandom;
  numpy: NumpyRandom;
  materials: RulerMaterials;
  /** Tokens of a text. */
  count(text: string): Promise<number>;
  /** Tokens that prompt and answer may have. */
  maxLength: number;
  samples: number;
}

/** The seed of all shuffles. */
export const SHUFFLE_SEED = 42;

/** Shuffles as a generator of its own does, so always alike. */
export function shuffled<T>(items: readonly T[]): T[] {
  const copy = [...items];
  new PythonRandom(SHUFFLE_SEED).shuffle(copy);
  return copy;
}

/** A text before it is known whether it fits. */
export interface Draft {
  prompt: string;
  begun: string;
  outputs: readonly string[];
  /** What is counted while the size is looked for: the prompt with its answer. */
  counted: string;
  /** What is counted of a text that is to be kept; default the prompt. */
  measured?: string;
}

/** How the size of a text is found. */
export interface Fitting {
  task: string;
  /** Units by which the text grows. */
  step: number;
  /** Tokens of the answer's room. */
  answerTokens: number;
  /** Tokens that come on top, such as an example's. */
  extraTokens?: number;
  /** The most units there are; what happens past it. */
  limit?: { units: number; after: 'growing' | 'counting' };
  /** NVIDIA's present generator guesses the most units from a text of so many, times a factor; default one step, 3. */
  guess?: { units: number; factor: number };
  /** The harness steps down to a single unit rather than to one step. */
  downToOne?: boolean;
  make(units: number, sample: number): Draft;
  /** What is put round a text once it fits. */
  after?(sample: RulerSample): RulerSample;
}

/**
 * How often a text of the smallest size is drawn, which may be shorter by chance: the originals try for ever. If after some
 * tries none was near, none will be.
 */
const MOST_TRIES = 50_000;
const TRIES = 200;
const NEAR = 1.25;

/**
 * Finds the size by stepping up until a text is too long, then makes the samples, each of which steps down while it is.
 * Every trial draws, so that the order of trials is part of the texts.
 *
 * @throws UserError where not even the smallest text fits
 */
export async function fitted(context: RulerContext, fitting: Fitting): Promise<RulerSample[]> {
  const { step, answerTokens, extraTokens = 0, downToOne = false, make, after = (one) => one } = fitting;
  const { maxLength, count, samples } = context;
  const room = maxLength - answerTokens - extraTokens;
  const units = await largestUnits(context, fitting, room);
  const made: RulerSample[] = [];
  for (let sample = 0; sample < samples; sample++) {
    let tries = 0;
    let shortest = Number.POSITIVE_INFINITY;
    for (let used = downToOne ? Math.max(1, units) : units; ; ) {
      const draft = attempted(() => make(used, sample));
      const tokens = draft && (await count(draft.measured ?? draft.prompt));
      if (draft && tokens! <= room) {
        const { prompt, begun, outputs } = draft;
        made.push(after({ prompt, begun, outputs, length: tokens! + answerTokens + extraTokens }));
        break;
      }
      const next = downToOne ? Math.max(1, used - step) : used > step ? used - step : used;
      shortest = Math.min(shortest, tokens ?? shortest);
      const hopeless = downToOne || tries >= MOST_TRIES || (tries >= TRIES && shortest > NEAR * room);
      if (next === used && hopeless) throw tooLong(fitting.task, maxLength);
      tries += next === used ? 1 : 0;
      used = next;
    }
  }
  return made;
}

/** Units that cannot be had (more needles than places) are as good as a text that is too long. */
function attempted(make: () => Draft): Draft | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

async function largestUnits(context: RulerContext, fitting: Fitting, room: number): Promise<number> {
  const { count, form } = context;
  const { step, make, limit } = fitting;
  if (form === 'nvidia') return halvedUnits(context, fitting, room);
  let units = step;
  for (let tokens = 0; tokens < room; ) {
    tokens = await count(make(units, 0).counted);
    if (tokens > room) return units - step;
    if (limit?.after === 'counting' && units > limit.units) return limit.units;
    units += step;
    if (limit?.after === 'growing' && units > limit.units) return limit.units;
  }
  return units;
}

/** By halving between one step and a guess; answers do not count. */
async function halvedUnits({ count, maxLength }: RulerContext, fitting: Fitting, room: number): Promise<number> {
  const { step, make, guess = { units: step, factor: 3 } } = fitting;
  const tokensOf = async (units: number) => {
    const draft = attempted(() => make(units, 0));
    return draft ? count(draft.measured ?? draft.prompt) : Number.POSITIVE_INFINITY;
  };
  const perUnit = (await tokensOf(guess.units)) / guess.units;
  let [low, high] = [step, Math.max(Math.trunc((maxLength / perUnit) * guess.factor), 2 * step)];
  let found = step;
  while (low <= high) {
    const middle = Math.floor((low + high) / 2);
    if ((await tokensOf(middle)) <= room) {
      found = middle;
      low = middle + 1;
    } else high = middle - 1;
  }
  return found;
}

function tooLong(task: string, maxLength: number): UserError {
  return new UserError(`${task}: not even the shortest text fits ${maxLength} tokens; take a longer length.`);
}
