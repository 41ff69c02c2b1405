/** The likelihood of texts that begin alike: their common beginning runs through the model once. */
import { UserError } from '@stickbreaking/base';
import type { Ints } from '@stickbreaking/core';
import type { Tensor1D, Tensor2D } from '@tensorflow/tfjs-core';
import type { KeyValueCache } from './cache.js';

/** Options of `LlamaModel.scoreContinuations`. */
export interface ScoreOptions {
  /** Also say whether each continuation is what greedy decoding gives; needs all logits of the continuations. Default: false. */
  greedy?: boolean;
  /** Keys that one pass may attend to, all continuations together, which bounds its memory; default 32,768. */
  batchTokens?: number;
}

/** How likely a continuation is after its context. */
export interface ContinuationScore {
  /** The sum over its tokens, in nats. */
  logProbability: number;
  /** Of each token. */
  tokens: Float32Array;
  /** Whether every token is the most likely one at its place. */
  isGreedy?: boolean;
}

/** What scoring asks of a model. */
interface ScoringModel {
  readonly config: { vocabSize: number };
  createCache(): KeyValueCache;
  nextLogits(tokens: Ints, options: { cache: KeyValueCache }): Tensor2D;
  forward(tokens: Ints, options: { cuSeqlens: Ints; cache: readonly KeyValueCache[] }): Tensor2D;
  tokenLosses(
    batch: { tokens: Ints; targets: Ints; cuSeqlens: Ints },
    options: { cache: readonly KeyValueCache[] },
  ): Tensor1D;
}

/** How many tokens of a context run through the model at once. */
const CONTEXT_TOKENS = 4096;

export async function scoreContinuations(
  model: ScoringModel,
  context: Ints,
  continuations: readonly Ints[],
  { greedy = false, batchTokens = 32_768 }: ScoreOptions,
): Promise<ContinuationScore[]> {
  if (context.length === 0) throw new UserError('The context is empty; expected at least one token.');
  for (const [i, continuation] of continuations.entries()) {
    if (continuation.length === 0) throw new UserError(`Continuation ${i} is empty; expected at least one token.`);
  }
  // The context's last token is the first input of every continuation: its logits are those of their first tokens.
  const shared = model.createCache();
  try {
    for (let begin = 0; begin < context.length - 1; begin += CONTEXT_TOKENS) {
      const end = Math.min(begin + CONTEXT_TOKENS, context.length - 1);
      model.nextLogits(context.slice(begin, end), { cache: shared }).dispose();
    }
    const scores: ContinuationScore[] = [];
    for (let from = 0; from < continuations.length; ) {
      let keys = 0;
      let to = from;
      while (to < continuations.length && (to === from || keys + shared.length <= batchTokens)) {
        keys += shared.length + continuations[to++]!.length;
      }
      scores.push(...(await scoreBatch(model, shared, context.at(-1)!, continuations.slice(from, to), greedy)));
      from = to;
    }
    return scores;
  } finally {
    shared.dispose();
  }
}

async function scoreBatch(
  model: ScoringModel,
  shared: KeyValueCache,
  last: number,
  continuations: readonly Ints[],
  greedy: boolean,
): Promise<ContinuationScore[]> {
  const cuSeqlens = [0];
  const tokens: number[] = [];
  const targets: number[] = [];
  for (const continuation of continuations) {
    tokens.push(last, ...continuation.slice(0, -1));
    targets.push(...continuation);
    cuSeqlens.push(tokens.length);
  }
  const caches = continuations.map(() => shared.fork());
  try {
    const losses = greedy
      ? await lossesOf(model.forward(tokens, { cuSeqlens, cache: caches }), targets)
      : { values: await taken(model.tokenLosses({ tokens, targets, cuSeqlens }, { cache: caches })) };
    return continuations.map((_, s) => {
      const own = losses.values.subarray(cuSeqlens[s], cuSeqlens[s + 1]).map((loss) => -loss);
      const bad = own.findIndex((value) => !Number.isFinite(value));
      if (bad >= 0) {
        throw new UserError(`The model gives no finite loss: token ${bad} of a continuation scores ${own[bad]}.`);
      }
      const score = { logProbability: own.reduce((sum, value) => sum + value, 0), tokens: own };
      if (!losses.isLikeliest) return score;
      return { ...score, isGreedy: losses.isLikeliest.slice(cuSeqlens[s], cuSeqlens[s + 1]).every((is) => is) };
    });
  } finally {
    for (const cache of caches) cache.dispose();
  }
}

async function taken(tensor: Tensor1D | Tensor2D): Promise<Float32Array> {
  const values = (await tensor.data()) as Float32Array;
  tensor.dispose();
  return values;
}

/** The loss of each target from its logits [N, vocabSize], and whether it is the most likely token. */
async function lossesOf(
  logits: Tensor2D,
  targets: readonly number[],
): Promise<{ values: Float32Array; isLikeliest?: boolean[] }> {
  const vocabSize = logits.shape[1];
  const all = await taken(logits);
  const isLikeliest: boolean[] = [];
  const values = Float32Array.from(targets, (target, row) => {
    const own = all.subarray(row * vocabSize, (row + 1) * vocabSize);
    let [highest, likeliest] = [Number.NEGATIVE_INFINITY, -1];
    for (let token = 0; token < vocabSize; token++) {
      if (own[token]! > highest) [highest, likeliest] = [own[token]!, token];
    }
    let sum = 0;
    for (const logit of own) sum += Math.exp(logit - highest);
    isLikeliest.push(likeliest === target);
    return highest + Math.log(sum) - own[target]!;
  });
  return { values, isLikeliest };
}
