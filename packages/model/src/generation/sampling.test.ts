/** Which tokens a draw is among, and the numbers that it takes. */
import { sampleTokens, selectBackend } from '@stickbreaking/core';
import { tensor2d } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { uniformAt } from './random.js';
import { logProbabilities, sample } from './sampling.js';

/** Probabilities 0.4, 0.3, 0.2, 0.08, 0.02, in another order than their size. */
const probabilities = [0.08, 0.3, 0.02, 0.4, 0.2];
const logits = Float32Array.from(probabilities, Math.log);

/** Every token that comes of numbers all over [0, 1). */
function drawn(options: Parameters<typeof sample>[1], earlier?: Set<number>): number[] {
  const seen = new Set<number>();
  for (let i = 0; i < 2000; i++) seen.add(sample(logits, options, (i + 0.5) / 2000, earlier));
  return [...seen].sort((a, b) => a - b);
}

describe('sample', () => {
  it('gives each token its share of the numbers', () => {
    const counts = probabilities.map(() => 0);
    for (let i = 0; i < 10_000; i++) counts[sample(logits, {}, (i + 0.5) / 10_000)]!++;
    for (const [token, count] of counts.entries()) expect(count / 10_000).toBeCloseTo(probabilities[token]!, 3);
  });

  it.each([
    [{ minP: 0.6 }, [1, 3]],
    [{ minP: 0.1 }, [0, 1, 3, 4]],
    [{ minP: 1 }, [3]],
    [{ topK: 3, minP: 0.6 }, [1, 3]],
    [{ topP: 0.65, minP: 0.9 }, [3]],
    [{ topP: 0.72 }, [1, 3, 4]],
    [{ topK: 2, topP: 0.5 }, [3]],
    [{ topK: 2, topP: 0.6 }, [1, 3]],
    [{ temperature: 0, topK: 4 }, [3]],
  ])('with %j is among %j', (options, tokens) => {
    expect(drawn(options)).toEqual(tokens);
  });

  it('finds what it needs far below the most likely token', () => {
    const steep = Float32Array.from({ length: 3000 }, (_, token) => -token / 1000);
    expect(sample(steep, { topK: 2500, topP: 1 }, 1 - 1e-16)).toBe(2499);
    expect(sample(Float32Array.of(0, -1e4, -2e4), { topK: 2 }, 0.999)).toBe(0);
    const tied = new Float32Array(50);
    expect(new Set([0.01, 0.5, 0.99].map((u) => sample(tied, { topK: 3 }, u)))).toEqual(new Set([0, 1, 2]));
  });

  it('divides the logits of earlier tokens where they are above 0, and multiplies them below', () => {
    const some = Float32Array.of(2, 1.5, -1, -3);
    expect(sample(some, { temperature: 0, repetitionPenalty: 2 }, 0, new Set([0]))).toBe(1);
    expect(sample(some, { temperature: 0, repetitionPenalty: 0.1 }, 0, new Set([3]))).toBe(0);
    const counts = [0, 0];
    for (let i = 0; i < 1000; i++) {
      counts[sample(Float32Array.of(-1, -1), { repetitionPenalty: 2 }, (i + 0.5) / 1000, new Set([0]))]!++;
    }
    // e^-2 against e^-1.
    expect(counts[0]! / 1000).toBeCloseTo(1 / (1 + Math.E), 2);
    expect([...some]).toEqual([2, 1.5, -1, -3]);
  });

  it.each([[Number.NaN], [Number.POSITIVE_INFINITY], [Number.NEGATIVE_INFINITY]])('refuses logits of %s', (value) => {
    expect(() => sample(new Float32Array(4).fill(value), {}, 0.5)).toThrow(/no finite logits: the largest is/);
  });
});

describe('on a backend that draws by itself', () => {
  // Logits as flat as an untrained model's, steep ones, ties, and more than one thread's share of them.
  const cases = [
    [40, (i: number) => Math.sin(i * 12.9898) * 0.3],
    [3000, (i: number) => Math.sin(i * 78.233) * 8],
    [3000, (i: number) => (i % 7) / 2],
    [20_000, (i: number) => -i / 900],
  ] as const;
  const settings = [
    ...[{}, { temperature: 0 }, { temperature: 0.5 }, { temperature: 1.7, topP: 0.9 }, { topK: 5 }, { topK: 900 }],
    ...[{ topK: 50, topP: 0.8 }, { topP: 0.02 }, { topP: 0.999 }, { minP: 0.1 }, { topK: 30, topP: 0.95, minP: 0.3 }],
  ];

  it.each(cases)('%i tokens are drawn as here', async (size, logitOf) => {
    await selectBackend('auto');
    const values = Float32Array.from({ length: size }, (_, i) => logitOf(i));
    const rows = settings.flatMap((options) =>
      [0, 0.2999, 0.5003, 0.8, 1 - 1e-9].map((uniform) => ({ options, uniform })),
    );
    const all = new Float32Array(rows.length * size);
    for (const row of rows.keys()) all.set(values, row * size);
    const tensor = tensor2d(all, [rows.length, size]);
    const given = rows.map(({ options, uniform }) => ({
      ...{ temperature: 1, topK: 2 ** 31 - 1, topP: 1, minP: 0, uniform, ...options },
    }));
    const drawn = await sampleTokens(tensor, given);
    tensor.dispose();
    // Without a compiler there is no such backend.
    if (!drawn) return;
    for (const [row, { options, uniform }] of rows.entries()) {
      // Weights of 32 bits move the borders between tokens a little.
      const near = [-1e-5, 0, 1e-5].map((by) =>
        sample(values, options, Math.min(1 - 1e-16, Math.max(0, uniform + by))),
      );
      expect(near, JSON.stringify(rows[row])).toContain(drawn.tokens[row]);
      const { logProbability } = logProbabilities(values, drawn.tokens[row]!, 0);
      expect(drawn.logProbabilities[row]).toBeCloseTo(logProbability, 4);
    }
  });
});

it('log-probabilities are those of the model, whatever is drawn from', () => {
  const { logProbability, top } = logProbabilities(logits, 4, 2);
  expect(Math.exp(logProbability)).toBeCloseTo(0.2, 6);
  expect(top.map(({ token }) => token)).toEqual([3, 1]);
  expect(Math.exp(top[1]!.logProbability)).toBeCloseTo(0.3, 6);
  expect(logProbabilities(logits, 0, 0).top).toEqual([]);
  expect(logProbabilities(logits, 0, 100).top).toHaveLength(5);
});

describe('uniformAt', () => {
  it('is Philox4x32-10, as its authors publish it', () => {
    // Their known answers: counter and key 0 give 6627e8d5 e169c58d …
    expect(uniformAt(0, 0)).toBe(((0x6627e8d5 >>> 5) * 2 ** 26 + (0xe169c58d >>> 6)) / 2 ** 53);
  });

  it('has a sequence of its own for every seed, large and negative ones too', () => {
    const seeds = [0, 1, -1, 2 ** 32, 2 ** 32 + 1, Number.MAX_SAFE_INTEGER];
    const numbers = seeds.flatMap((seed) => Array.from({ length: 50 }, (_, n) => uniformAt(seed, n)));
    expect(new Set(numbers).size).toBe(seeds.length * 50);
    const mean = numbers.reduce((a, b) => a + b, 0) / numbers.length;
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.1);
    expect(numbers.every((x) => x >= 0 && x < 1)).toBe(true);
  });
});
