import { describe, expect, it } from 'vitest';
import { type LlamaConfigInput, nonNegative, parseConfig } from './index.js';

const model: LlamaConfigInput = { vocabSize: 20, hiddenSize: 16, intermediateSize: 24, numLayers: 1, numHeads: 2 };
const softmax = (rest: object) => ({ attention: { kind: 'softmax', ...rest } });

describe('a number that a compiled kernel could not hold', () => {
  it.each([
    [softmax({ window: 2 ** 32 + 1 }), 'attention.window'],
    [softmax({ window: 2 ** 32 }), 'attention.window'],
    [softmax({ window: 2 ** 31 }), 'attention.window'],
    [softmax({ position: { kind: 'fire', width: 2 ** 32 + 1 } }), 'attention.position.width'],
    [softmax({ position: { kind: 'fire', initialThreshold: 1e39 } }), 'attention.position.initialThreshold'],
    [softmax({ position: { kind: 'rope', theta: 1e-300 } }), 'attention.position.theta'],
    [softmax({ position: { kind: 'rope', scaling: { kind: 'linear', factor: 1e300 } } }), 'scaling.factor'],
    [{ numLayers: 1e9 }, 'numLayers'],
    [{ vocabSize: 2 ** 32 }, 'vocabSize'],
    [{ contextLength: 2 ** 40 }, 'contextLength'],
    [{ normEpsilon: 1e-60 }, 'normEpsilon'],
    [{ initializerRange: 1e300 }, 'initializerRange'],
    [{ mup: { residualMultiplier: 1e39 } }, 'mup.residualMultiplier'],
    [{ mup: { logitsDivider: 1e-39 } }, 'mup.logitsDivider'],
  ])('%j is refused by its key', (change, key) => {
    expect(() => parseConfig({ ...model, ...change } as LlamaConfigInput)).toThrow(key);
  });

  it('and the largest that it could is taken', () => {
    const attention = { kind: 'softmax' as const, window: 2 ** 31 - 1 };
    expect(parseConfig({ ...model, attention }).attention).toMatchObject(attention);
  });

  it('or 0, where that says something, but nothing that would become 0', () => {
    expect([0, 1.2e-38, 1, 3.4e38].map((value) => nonNegative().safeParse(value).success)).toEqual(Array(4).fill(true));
    expect([1e-320, 1e-39, -1, 1e39].map((value) => nonNegative().safeParse(value).success)).toEqual(
      Array(4).fill(false),
    );
  });
});
