import { selectBackend } from '@stickbreaking/core';
import type { Tensor3D } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { LlamaModel, parseConfig } from '../index.js';

beforeAll(() => selectBackend('cpu'));

const tokens = Array.from({ length: 160 }, (_, i) => (i * i * 7 + 3 * i) % 97);
const sizes = { vocabSize: 97, hiddenSize: 48, intermediateSize: 32, numLayers: 1, headDim: 8 };

/** By head: the mean distance of what the last tokens attend to, and what they leave. */
function seen(changed: object, initialReach?: number | [number, number]) {
  const attention = { kind: 'stick-breaking', ...(initialReach === undefined ? {} : { initialReach }) } as const;
  const model = LlamaModel.create(parseConfig({ ...sizes, numHeads: 4, attention, ...changed }), { seed: 5 });
  const found: { distance: number; remainder: number }[] = [];
  model
    .lastLogits(tokens, {
      observe: ({ weights }) => {
        const matrix: Tensor3D = weights();
        const [heads, length] = matrix.shape;
        const values = matrix.dataSync();
        for (let h = 0; h < heads; h++) {
          let [sum, distance] = [0, 0];
          for (let j = length - 40; j < length; j++) {
            for (let i = 0; i < j; i++) {
              const weight = values[(h * length + j) * length + i]!;
              sum += weight;
              distance += weight * (j - i);
            }
          }
          found.push({ distance: distance / sum, remainder: 1 - sum / 40 });
        }
      },
    })
    .dispose();
  model.dispose();
  return found;
}

describe('the initial reach', () => {
  it('is about two tokens without it', () => {
    for (const { distance } of seen({})) expect(distance).toBeCloseTo(2, 0);
  });

  it.each([
    ['heads of their own', {}],
    ['grouped heads', { numKvHeads: 2 }],
    ['another factor on q·k', { mup: { attentionMultiplier: 0.7 } }],
  ])('is the distance at which fresh sticks attend: %s', (_, changed) => {
    for (const { distance, remainder } of seen(changed, 12)) {
      expect(Math.abs(distance / 12 - 1)).toBeLessThan(0.35); // chance: q and k are not zero
      expect(remainder).toBeLessThan(1e-3);
    }
  });

  it('lies between the first and the last in equal ratios', () => {
    const distances = seen({}, [2, 16]).map(({ distance }) => distance);
    for (const [h, expected] of [2, 4, 8, 16].entries()) {
      expect(Math.abs(distances[h]! / expected - 1), `head ${h}`).toBeLessThan(0.35);
    }
  });

  it('is refused below two tokens', () => {
    const config = { ...sizes, numHeads: 4, attention: { kind: 'stick-breaking', initialReach: 1.5 } } as const;
    expect(() => parseConfig(config)).toThrow('at least 2 tokens');
  });
});
