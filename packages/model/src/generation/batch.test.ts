/** Generation in batches: every kind of attention against full forward passes, and rows that do not know of each other. */
import { UserError } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { memory, tensor } from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  BatchGenerator,
  type GenerationRequest,
  type KeyValueCache,
  type LlamaConfigInput,
  LlamaModel,
} from '../index.js';

const base: LlamaConfigInput = {
  ...{ vocabSize: 37, hiddenSize: 24, intermediateSize: 32, numLayers: 2, numHeads: 4, numKvHeads: 2 },
  ...{ contextLength: 64, initializerRange: 0.4 },
};
const rope = (scaling: object) => ({ kind: 'softmax', position: { kind: 'rope', scaling } }) as const;
const kinds: Record<string, LlamaConfigInput['attention']> = {
  'stick-breaking': 'stick-breaking',
  'stick-breaking with everything': {
    kind: 'stick-breaking',
    attendCurrent: true,
    remainderBias: true,
    headNorm: true,
    qkNorm: true,
    initialReach: [4, 12],
  },
  rope: 'softmax+rope',
  'rope, linear': rope({ kind: 'linear', factor: 3 }) as LlamaConfigInput['attention'],
  'rope, dynamic': rope({ kind: 'dynamic', factor: 3 }) as LlamaConfigInput['attention'],
  'rope, sink': { kind: 'softmax', position: 'rope', sink: true },
  'rope, QK-norm': { kind: 'softmax', position: 'rope', qkNorm: true },
  'rope, window': { kind: 'softmax', position: 'rope', window: 5 },
  alibi: 'softmax+alibi',
  fire: 'softmax+fire',
  nope: 'softmax+nope',
  'forget gates': 'softmax+forget',
};
const mup = { embeddingMultiplier: 3, residualMultiplier: 0.4, attentionMultiplier: 0.2, logitsDivider: 2 };

/** Tokens that follow each other in no simple way. */
const text = (length: number, from = 0) => Array.from({ length }, (_, i) => ((from + i) * (from + i) * 7 + i) % 37);

async function continued(model: LlamaModel, requests: GenerationRequest[], batchSize: number): Promise<number[][]> {
  const all: number[][] = requests.map(() => []);
  for await (const event of model.generateBatch(requests, { batchSize })) {
    if ('token' in event) all[event.index]!.push(event.token);
  }
  return all;
}

/** The most likely token after a text by the full forward, over and over. */
function greedy(model: LlamaModel, prompt: readonly number[], count: number): number[] {
  const tokens = [...prompt];
  for (let i = 0; i < count; i++) {
    const logits = model.lastLogits(tokens);
    const values = [...logits.dataSync()];
    logits.dispose();
    tokens.push(values.indexOf(Math.max(...values)));
  }
  return tokens.slice(prompt.length);
}

describe.each(['cpu', 'auto'])('on %s', (backend) => {
  beforeAll(async () => {
    await selectBackend(backend);
  });

  it.each([
    ...Object.entries(kinds).map(([name, attention]) => [name, { attention }] as const),
    ['experts', { intermediateSize: undefined, experts: { count: 6, active: 2, intermediateSize: 14 } }] as const,
  ])('%s: greedy is the most likely token of the full forward', async (_, change) => {
    const model = LlamaModel.create({ ...base, ...change, mup }, { seed: 3 });
    const prompts = [text(5), text(1, 8), text(33, 3), text(17, 11)];
    const requests = prompts.map((prompt) => ({ prompt, maxNewTokens: 12, temperature: 0 }));
    const before = memory().numTensors;
    const found = await continued(model, requests, 3);
    expect(found).toEqual(prompts.map((prompt) => greedy(model, prompt, 12)));
    // A factor of each kind of multiplier stays with the model; no cache does.
    expect(memory().numTensors - before).toBeLessThanOrEqual(2);
    model.dispose();
  });
});

describe('rows', () => {
  let model: LlamaModel;
  beforeAll(async () => {
    await selectBackend('auto');
    model = LlamaModel.create({ ...base, vocabSize: 37, hiddenSize: 48 }, { seed: 5 });
  });
  afterAll(() => model.dispose());

  it('are the same whatever else is in the batch', async () => {
    const requests = Array.from({ length: 90 }, (_, i) => ({
      prompt: text(1 + ((i * 13) % 40), i),
      ...{ seed: i % 7, maxNewTokens: 1 + (i % 23), temperature: 1 + (i % 3) / 2 },
      ...(i % 2 ? { topK: 9 } : { topP: 0.9, minP: 0.01, repetitionPenalty: 1.2 }),
    }));
    const alone = await continued(model, requests, 1);
    for (const [i, tokens] of alone.entries()) expect(tokens).toHaveLength(requests[i]!.maxNewTokens);
    for (const batchSize of [7, 64, 90]) expect(await continued(model, requests, batchSize)).toEqual(alone);
    const order = requests.map((_, i) => (i * 37) % 90);
    const shuffled = await continued(
      model,
      order.map((i) => requests[i]!),
      20,
    );
    expect(shuffled).toEqual(order.map((i) => alone[i]));
  });

  it('make room for the next as they end', async () => {
    const running: number[] = [];
    const batch = new BatchGenerator(model, { batchSize: 4 });
    const lengths = [9, 1, 5, 2, 7, 3, 1, 8];
    const ids = lengths.map((maxNewTokens) => batch.add({ prompt: [1, 2], maxNewTokens, seed: maxNewTokens }));
    expect(ids).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    const made = lengths.map(() => 0);
    let steps = 0;
    for (; batch.size > 0; steps++) {
      const events = await batch.step();
      running.push(events.filter((event) => 'token' in event).length);
      for (const event of events) if ('token' in event) made[event.id]!++;
    }
    expect(made).toEqual(lengths);
    expect(Math.max(...running)).toBeLessThanOrEqual(8);
    // Nine of the longest, and two prompts behind the others: not the sum of anything.
    expect(steps).toBeLessThan(14);
    expect(await batch.step()).toEqual([]);
  });

  it('share the cache of a prefix, which stays as it was', async () => {
    const prefix = text(50);
    const cache = model.createCache();
    model.nextLogits(prefix, { cache }).dispose();
    const ends = [text(3, 5), text(20, 6), text(1, 9)];
    const requests = ends.map((prompt) => ({ prompt, prefix: cache, maxNewTokens: 20, temperature: 0 }));
    const found = await continued(model, requests, 2);
    expect(found).toEqual(ends.map((end) => greedy(model, [...prefix, ...end], 20)));
    expect(cache.length).toBe(50);
    expect(await continued(model, requests, 3)).toEqual(found);
    cache.dispose();
  });

  it('leave their caches to those who ask, for what begins alike', async () => {
    const prompt = text(45);
    const batch = new BatchGenerator(model, { batchSize: 2 });
    const id = batch.add({ prompt, maxNewTokens: 20, temperature: 0, keepCache: true });
    const made: number[] = [];
    let cache: KeyValueCache | undefined;
    while (!cache) {
      for (const event of await batch.step()) {
        if ('token' in event) made.push(event.token);
        else cache = event.cache;
      }
    }
    expect([id, cache.length]).toEqual([0, 64]);
    // Not at a page's end, within what was made.
    const beginning = [...prompt, ...made].slice(0, 50);
    const other = text(9, 3);
    const fork = cache.fork(50);
    const [found] = await continued(model, [{ prompt: other, prefix: fork, maxNewTokens: 12, temperature: 0 }], 1);
    expect(found).toEqual(greedy(model, [...beginning, ...other], 12));
    expect([fork.length, cache.length]).toEqual([50, 64]);
    const running = batch.add({ prompt, maxNewTokens: 20, keepCache: true });
    await batch.step();
    batch.remove(running);
    const [end] = await batch.step();
    expect(end).toMatchObject({ id: running, end: 'removed', cache: { length: 45 } });
    if (end && 'end' in end) end.cache?.dispose();
    fork.dispose();
    cache.dispose();
    batch.dispose();
  });

  it('take about the memory that they need, and give it back', async () => {
    const numbers = () => memory().numBytes / 4;
    const before = numbers();
    const batch = new BatchGenerator(model, { batchSize: 8 });
    for (let i = 0; i < 8; i++) batch.add({ prompt: text(300 + i, i), maxNewTokens: 100, seed: i });
    const { numLayers, numKvHeads, headDim } = model.config;
    let tokens = 8 * 304;
    while (batch.size > 0) {
      tokens += (await batch.step()).filter((event) => 'token' in event).length;
      if (batch.size < 8) break;
      const needed = 2 * tokens * numLayers * numKvHeads * headDim;
      expect((numbers() - before) / needed).toBeLessThan(1.1);
    }
    batch.dispose();
    expect(numbers()).toBe(before);
  });

  it('end at their signal, and where they are removed', async () => {
    const batch = new BatchGenerator(model, { batchSize: 2 });
    const controller = new AbortController();
    const first = batch.add({ prompt: [1], maxNewTokens: 50, signal: controller.signal });
    const second = batch.add({ prompt: [2], maxNewTokens: 4 });
    const third = batch.add({ prompt: [3], maxNewTokens: 50 });
    await batch.step();
    controller.abort();
    expect(batch.remove(third)).toBe(true);
    const events = await batch.step();
    expect(events.filter((event) => 'end' in event)).toEqual([
      { id: third, end: 'removed' },
      { id: first, end: 'removed' },
    ]);
    expect(batch.remove(first)).toBe(false);
    while (batch.size > 0) for (const event of await batch.step()) expect(event.id).toBe(second);
    batch.dispose();
  });

  it('tell log-probabilities of the full forward', async () => {
    const prompt = text(9);
    for await (const event of model.generateBatch([{ prompt, maxNewTokens: 1, logProbabilities: 3, seed: 2 }])) {
      if (!('token' in event)) continue;
      const values = [...model.lastLogits(prompt).dataSync()];
      const total = Math.log(values.reduce((sum, value) => sum + Math.exp(value), 0));
      expect(event.logProbability).toBeCloseTo(values[event.token]! - total, 4);
      expect(event.top).toHaveLength(3);
      expect(event.top![0]!.logProbability).toBeCloseTo(Math.max(...values) - total, 4);
    }
  });

  it('are refused with one line', async () => {
    const take = async (...requests: GenerationRequest[]) => continued(model, requests, 2);
    await expect(take({ prompt: [] })).rejects.toThrow(
      new UserError('Prompt 0: The prompt is empty; a continuation needs at least one token.'),
    );
    await expect(take({ prompt: [1], maxNewTokens: 2 }, { prompt: [37] })).rejects.toThrow(
      /Prompt 1: Token 37 is not in the model's vocabulary of 37/,
    );
    await expect(take({ prompt: [1], minP: 2 })).rejects.toThrow(/minP is 2; expected 0 to 1/);
    await expect(take({ prompt: [1], repetitionPenalty: 0 })).rejects.toThrow(/repetitionPenalty is 0/);
    await expect(take({ prompt: [1], repetitionPenalty: 1e-60 })).rejects.toThrow(/repetitionPenalty is 1e-60/);
    await expect(take({ prompt: [1], maxNewTokens: 1e12 })).rejects.toThrow(
      /^Prompt 0: maxNewTokens is 1000000000000\. The keys and values of 1000000000001 tokens need .* TiB; this machine has/,
    );
    expect(() => model.reserveCache([1e12])).toThrow(
      /The keys and values of 1000000000000 tokens need .*; (this machine|no GPU) has .*shorter prompts and continuations, or fewer at once/,
    );
    expect(() => new BatchGenerator(model, { batchSize: 0 })).toThrow(/batchSize is 0/);
    const sick = LlamaModel.create(base);
    const [, weight] = [...sick.parameters].at(-1)!;
    weight.assign(tensor(new Float32Array(weight.size).fill(Number.NaN), weight.shape));
    await expect(continued(sick, [{ prompt: [1, 2] }], 1)).rejects.toThrow(/no finite logits.*NaN/);
    sick.dispose();
    expect(memory().numTensors).toBeGreaterThan(0);
  });
});

describe('scoreContinuations', () => {
  it.each(Object.entries(kinds))('%s: as the whole texts score', async (_, attention) => {
    await selectBackend('auto');
    const model = LlamaModel.create({ ...base, attention }, { seed: 6 });
    const context = text(30);
    const likeliest = greedy(model, context, 3);
    const continuations = [text(4, 2), [5], likeliest, text(20, 1)];
    const before = memory().numTensors;
    const scores = await model.scoreContinuations(context, continuations, { greedy: true, batchTokens: 70 });
    expect(memory().numTensors).toBe(before);
    for (const [i, continuation] of continuations.entries()) {
      const tokens = [...context, ...continuation];
      const targets = [...tokens.slice(1), -1].map((target, at) => (at < context.length - 1 ? -1 : target));
      const losses = [...model.tokenLosses({ tokens, targets, cuSeqlens: [0, tokens.length] }).dataSync()];
      const wanted = losses.slice(context.length - 1, -1);
      expect(scores[i]!.tokens).toHaveLength(continuation.length);
      for (const [at, loss] of wanted.entries()) expect(scores[i]!.tokens[at]).toBeCloseTo(-loss, 3);
      expect(scores[i]!.logProbability).toBeCloseTo(-wanted.reduce((a, b) => a + b, 0), 3);
    }
    expect(scores.map(({ isGreedy }) => isGreedy)).toEqual([false, [5][0] === likeliest[0], true, false]);
    const plain = await model.scoreContinuations([1], [[2, 3]]);
    expect(plain[0]!.isGreedy).toBeUndefined();
    await expect(model.scoreContinuations([], [[1]])).rejects.toThrow(/The context is empty/);
    await expect(model.scoreContinuations([1], [[1], []])).rejects.toThrow(/Continuation 1 is empty/);
    model.dispose();
  });
});
