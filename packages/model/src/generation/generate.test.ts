/** What is drawn from a model whose next token does not depend on the text: its frequencies are those asked for. */
import { selectBackend } from '@stickbreaking/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type GenerateOptions, LlamaModel, parseConfig } from '../index.js';

/** Logits of the next token, whatever came before. */
const logits = [1.2, -0.5, 2, 0.4, 1.6, -1, 0.9, 0];
const config = parseConfig({
  ...{ vocabSize: logits.length, hiddenSize: 2, intermediateSize: 2, numLayers: 1, numHeads: 1 },
  ...{ contextLength: 4096, normEpsilon: 1e-12 },
});
let model: LlamaModel;

beforeAll(async () => {
  await selectBackend('auto');
  // Every token is embedded as (1, 1), which neither the layer nor the norms change; the head reads the first number.
  model = LlamaModel.from(config, (name, shape) => {
    const size = shape.reduce((product, length) => product * length, 1);
    if (name === 'lm_head.weight') return Float32Array.from({ length: size }, (_, i) => (i % 2 ? 0 : logits[i / 2]!));
    return new Float32Array(size).fill(/norm|embed/.test(name) ? 1 : 0);
  });
});
afterAll(() => model.dispose());

const DRAWS = 500;

async function frequencies(options: GenerateOptions): Promise<number[]> {
  const counts = logits.map(() => 0);
  for await (const token of model.generate([0], { maxNewTokens: DRAWS, seed: 5, ...options })) counts[token]!++;
  return counts.map((count) => count / DRAWS);
}

/** Probabilities at a temperature, of these tokens alone. */
function softmax(temperature: number, tokens = logits.map((_, token) => token)): number[] {
  const weights = logits.map((logit, token) => (tokens.includes(token) ? Math.exp(logit / temperature) : 0));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

function expectDrawnFrom(found: readonly number[], probabilities: readonly number[]): void {
  for (const [token, p] of probabilities.entries()) {
    // Five standard errors; what has no probability is never drawn.
    const error = 5 * Math.sqrt((p * (1 - p)) / DRAWS);
    expect(Math.abs(found[token]! - p), `token ${token}`).toBeLessThanOrEqual(error);
  }
}

const byLikelihood = [2, 4, 0, 6, 3, 7, 1, 5];

describe('generate', () => {
  it('has these logits to draw from', () => {
    const found = model.lastLogits([3, 1]).dataSync();
    for (const [token, logit] of logits.entries()) expect(found[token]).toBeCloseTo(logit, 4);
  });

  it.each([undefined, 0.5, 2])('temperature %s divides the logits', async (temperature) => {
    expectDrawnFrom(await frequencies(temperature === undefined ? {} : { temperature }), softmax(temperature ?? 1));
  });

  it.each([1, 3, 6])('topK %i leaves the likeliest alone', async (topK) => {
    expectDrawnFrom(await frequencies({ topK }), softmax(1, byLikelihood.slice(0, topK)));
  });

  it('topK beyond the vocabulary leaves all of it', async () => {
    expectDrawnFrom(await frequencies({ topK: 100 }), softmax(1));
  });

  // Cumulated probabilities by likelihood: 0.36, 0.61, 0.77, 0.89, 0.96, …
  it.each([
    [0.3, 1],
    [0.5, 2],
    [0.7, 3],
    [0.8, 4],
    [1, 8],
  ])('topP %f leaves the fewest that have it together: %i', async (topP, count) => {
    expectDrawnFrom(await frequencies({ topP }), softmax(1, byLikelihood.slice(0, count)));
  });

  it('topP counts what topK and the temperature leave', async () => {
    // Of three tokens at temperature 2 the first two have 0.73 together.
    expectDrawnFrom(await frequencies({ topK: 3, topP: 0.72, temperature: 2 }), softmax(2, [2, 4]));
    expectDrawnFrom(await frequencies({ topK: 3, topP: 0.74, temperature: 2 }), softmax(2, [2, 4, 0]));
  });

  it('ends at a stop token, without it, or at maxNewTokens', async () => {
    const take = async (options: GenerateOptions) => {
      const all: number[] = [];
      for await (const token of model.generate([0], { seed: 8, ...options })) all.push(token);
      return all;
    };
    const free = await take({ maxNewTokens: 40 });
    expect(free).toHaveLength(40);
    expect(await take({ maxNewTokens: 40, stop: [6, 3] })).toEqual(
      free.slice(
        0,
        free.findIndex((token) => token === 6 || token === 3),
      ),
    );
    expect(await take({})).toHaveLength(256);
    expect(await take({ maxNewTokens: 40, seed: 9 })).not.toEqual(free);
  });
});
