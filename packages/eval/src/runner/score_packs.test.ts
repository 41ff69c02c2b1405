import { selectBackend } from '@stickbreaking/core';
import { LlamaModel } from '@stickbreaking/model';
import { memory } from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { packsOf } from './packs.js';
import { PackScorer, type SequenceScore } from './score_packs.js';
import { type Sequence, sequenceOf } from './sequences.js';

const vocabSize = 60;
let model: LlamaModel;
beforeAll(async () => {
  await selectBackend('native');
  const sizes = { vocabSize, hiddenSize: 32, intermediateSize: 48, numLayers: 2, numHeads: 4, numKvHeads: 2 };
  model = LlamaModel.create({ ...sizes, contextLength: 256, attention: 'stick-breaking', initializerRange: 0.4 });
});
afterAll(() => model.dispose());

const tokens = (count: number, seed: number) =>
  Array.from({ length: count }, (_, i) => (7 * i * i + 13 * seed + 5 * i * seed) % vocabSize);

/** A context with what follows it, as `encodePairs` gives it. */
function scored(context: readonly number[], continuation: readonly number[]) {
  return { input: [...context, ...continuation].slice(0, -1), targets: [...continuation], cut: 0 };
}

/** What the model, asked by itself, chooses after the context; so that one is greedy. */
function likeliest(context: readonly number[]): number {
  const logits = [...model.lastLogits([...context]).dataSync()];
  return logits.indexOf(Math.max(...logits));
}

const shots = tokens(70, 1);
function sequences(): Sequence[] {
  const found: Sequence[] = [];
  for (let d = 0; d < 6; d++) {
    // Contexts of the task's beginning and more; of the document alone; too short for a cache.
    const context = [...(d % 3 === 0 ? shots : []), ...tokens([40, 90, 9][d % 3]!, 20 + d)];
    const best = likeliest(context);
    for (const continuation of [[best], [best, 3, 4], tokens(11, d), tokens(30, d + 1), [best === 5 ? 6 : 5]]) {
      found.push(sequenceOf(scored(context, continuation), { ofTask: shots, ofContext: true }));
    }
  }
  // Letters after one question: the same input, other targets.
  for (const letter of [1, 2, 3, 4]) found.push(sequenceOf(scored([...shots, 9, 8], [letter]), { ofTask: shots }));
  return found;
}

async function scoresOf(all: readonly Sequence[], batchTokens: number): Promise<Map<string, SequenceScore>> {
  const scorer = new PackScorer(model, batchTokens);
  const found = new Map<string, SequenceScore>();
  for (const pack of packsOf(all, batchTokens)) for (const [key, one] of await scorer.score(pack)) found.set(key, one);
  scorer.dispose();
  return found;
}

describe('scores of sequences', () => {
  it('are what the model gives one by one, without a cache', async () => {
    const all = sequences();
    expect(new Set(all.map(({ root, cached }) => `${root} ${cached}`))).toEqual(
      new Set(['64 96', '0 80', '0 0', '64 64']),
    );
    const found = await scoresOf(all, 512);
    expect([...found.values()].some(({ isGreedy }) => isGreedy)).toBe(true);
    for (const { input, targets, key } of all) {
      const logits = model.forward([...input]).logSoftmax();
      const rows = (await logits.array()) as number[][];
      logits.dispose();
      const own = targets.map((target, t) => ({ target, row: rows[input.length - targets.length + t]! }));
      const expected = own.reduce((sum, { target, row }) => sum + row[target]!, 0);
      expect(found.get(key)!.logLikelihood).toBeCloseTo(expected, 4);
      expect(found.get(key)!.isGreedy).toBe(own.every(({ target, row }) => row[target] === Math.max(...row)));
    }
  });

  it('are the same to the digit alone, in any pack and in any order, and nothing stays behind', async () => {
    const all = sequences();
    const before = memory().numTensors;
    const whole = await scoresOf(all, 4096);
    for (const batchTokens of [1, 100, 600]) expect(await scoresOf(all, batchTokens)).toEqual(whole);
    const reversed = await scoresOf([...all].reverse(), 4096);
    for (const [key, one] of reversed) expect(one).toEqual(whole.get(key));
    for (const one of all) expect((await scoresOf([one], 4096)).get(one.key)).toEqual(whole.get(one.key));
    expect(memory().numTensors).toBe(before);
  });

  it('run what is shared once', async () => {
    const extend = vi.spyOn(model, 'extendCache');
    const score = vi.spyOn(model, 'targetScores');
    const context = tokens(200, 3);
    const continuations = [tokens(10, 1), tokens(12, 2), tokens(14, 3), tokens(16, 4)];
    const all = continuations.map((one) =>
      sequenceOf(scored([...shots, ...context], one), { ofTask: shots, ofContext: true }),
    );
    const packs = packsOf(all, 4096);
    // Of the context's 270 tokens 256 are cached, 64 of them for the task; 14 stay before each continuation.
    expect(packs.map((pack) => pack.tokens)).toEqual([192 + 4 * 13 + 10 + 12 + 14 + 16]);
    await scoresOf(all, 4096);
    // The anchor, the task's beginning, the context; each with what fills it up.
    const [anchor, root, ofContext, ...more] = extend.mock.calls.map(([given]) => given.length);
    expect([anchor === root, ofContext! >= 192 - 64, more]).toEqual([true, true, []]);
    expect(score).toHaveBeenCalledTimes(1);
    vi.restoreAllMocks();
  });

  it('refuse a model that has diverged', async () => {
    const broken = LlamaModel.from(model.config, (_, shape) =>
      new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(Number.NaN),
    );
    const scorer = new PackScorer(broken, 100);
    const [pack] = packsOf([sequenceOf(scored([1, 2], [3]))], 100);
    await expect(scorer.score(pack!)).rejects.toThrow('The model gives no finite loss.');
    scorer.dispose();
    broken.dispose();
  });
});
