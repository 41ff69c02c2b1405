import { chooseSeed, seededRandom } from '@stickbreaking/base';
import { type Tensor3D, tensor3d, tidy } from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  alibiSlopes,
  type Position,
  ropeInverseFrequencies,
  selectBackend,
  softmaxAttention,
  softmaxWeights,
  stickBreakingAttention,
  stickBreakingWeights,
} from '../index.js';

beforeAll(() => selectBackend('cpu'));

const seed = chooseSeed();

/** Uniform numbers from −size to size. */
function randomNumbers(count: number, salt: number, size = 1): Float32Array {
  const { uniform } = seededRandom(seed, `weights ${salt}`);
  return Float32Array.from({ length: count }, () => (2 * uniform() - 1) * size);
}

/** q·k/√D of one query and key, in float64; heads of k are shared. */
function logitOf(q: Float32Array, k: Float32Array, sizes: Sizes, h: number, j: number, i: number): number {
  const { heads, kvHeads, dim } = sizes;
  const g = Math.floor((h * kvHeads) / heads);
  let sum = 0;
  for (let d = 0; d < dim; d++) sum += q[(j * heads + h) * dim + d]! * k[(i * kvHeads + g) * dim + d]!;
  return sum / Math.sqrt(dim);
}

interface Sizes {
  tokens: number;
  heads: number;
  kvHeads: number;
  dim: number;
}

/** Equation 1 of the paper as it stands there: β and the product of what nearer keys left. */
function directStickBreaking(q: Float32Array, k: Float32Array, sizes: Sizes, attendCurrent: boolean): Float64Array {
  const { tokens, heads } = sizes;
  const weights = new Float64Array(heads * tokens * tokens);
  for (let h = 0; h < heads; h++) {
    for (let j = 0; j < tokens; j++) {
      let left = 1;
      for (let i = attendCurrent ? j : j - 1; i >= 0; i--) {
        const z = logitOf(q, k, sizes, h, j, i);
        weights[(h * tokens + j) * tokens + i] = left / (1 + Math.exp(-z));
        left /= 1 + Math.exp(z);
      }
    }
  }
  return weights;
}

function directSoftmax(q: Float32Array, k: Float32Array, sizes: Sizes, position: Position, window: number) {
  const { tokens, heads, kvHeads, dim } = sizes;
  const [qq, kk] =
    position.kind === 'rope' ? [rotated(q, tokens, heads, dim), rotated(k, tokens, kvHeads, dim)] : [q, k];
  const slopes = position.kind === 'alibi' ? alibiSlopes(heads) : new Array(heads).fill(0);
  const weights = new Float64Array(heads * tokens * tokens);
  for (let h = 0; h < heads; h++) {
    for (let j = 0; j < tokens; j++) {
      const first = Math.max(0, j - window + 1);
      const logits = Array.from(
        { length: j + 1 - first },
        (_, n) => logitOf(qq as Float32Array, kk as Float32Array, sizes, h, j, first + n) - slopes[h] * (j - first - n),
      );
      const peak = Math.max(...logits);
      const total = logits.reduce((sum, z) => sum + Math.exp(z - peak), 0);
      for (const [n, z] of logits.entries()) {
        weights[(h * tokens + j) * tokens + first + n] = Math.exp(z - peak) / total;
      }
    }
  }
  return weights;
}

function rotated(x: Float32Array, tokens: number, heads: number, dim: number): ArrayLike<number> {
  const frequencies = ropeInverseFrequencies(dim);
  const out = Float64Array.from(x);
  for (let row = 0; row < tokens * heads; row++) {
    for (let d = 0; d < dim / 2; d++) {
      const angle = Math.floor(row / heads) * frequencies[d]!;
      const [a, b] = [x[row * dim + d]!, x[row * dim + d + dim / 2]!];
      out[row * dim + d] = a * Math.cos(angle) - b * Math.sin(angle);
      out[row * dim + d + dim / 2] = b * Math.cos(angle) + a * Math.sin(angle);
    }
  }
  return out;
}

function expectClose(tensor: Tensor3D, expected: Float64Array): void {
  const values = tensor.dataSync();
  let [error, size] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    error += (values[i]! - expected[i]!) ** 2;
    size += expected[i]! ** 2;
  }
  expect(Math.sqrt(error / Math.max(size, 1e-30)), `seed ${seed}`).toBeLessThan(1e-4);
}

const shapes: Sizes[] = [
  { tokens: 1, heads: 1, kvHeads: 1, dim: 32 },
  { tokens: 2, heads: 2, kvHeads: 1, dim: 16 },
  { tokens: 65, heads: 7, kvHeads: 7, dim: 50 },
  { tokens: 130, heads: 4, kvHeads: 2, dim: 8 },
];

describe.each(shapes)('attention weights of $tokens tokens, $heads/$kvHeads heads of $dim', (sizes) => {
  const { tokens, heads, kvHeads, dim } = sizes;
  const inputs = (size: number) => {
    const q = randomNumbers(tokens * heads * dim, 1, size);
    const k = randomNumbers(tokens * kvHeads * dim, 2, size);
    return { q, k, Q: tensor3d(q, [tokens, heads, dim]), K: tensor3d(k, [tokens, kvHeads, dim]) };
  };

  it.each([true, false])('stick-breaking, attendCurrent %s', (attendCurrent) => {
    for (const size of [1, 12]) {
      const { q, k, Q, K } = inputs(size);
      expectClose(stickBreakingWeights(Q, K, { attendCurrent }), directStickBreaking(q, k, sizes, attendCurrent));
    }
  });

  it.each([['none'], ['rope'], ['alibi']] as const)('softmax with %s, whole and in a window', (kind) => {
    const { q, k, Q, K } = inputs(4);
    const position: Position = { kind };
    expectClose(softmaxWeights(Q, K, { position }), directSoftmax(q, k, sizes, position, tokens));
    expectClose(softmaxWeights(Q, K, { position, window: 5 }), directSoftmax(q, k, sizes, position, 5));
  });

  it('are what the attention ops mix values with', () => {
    const { Q, K } = inputs(3);
    const V = tensor3d(randomNumbers(tokens * kvHeads * dim, 3), [tokens, kvHeads, dim]);
    const mix = (weights: Tensor3D) =>
      tidy(() => {
        const shared = V.transpose([1, 0, 2]).reshape([kvHeads, 1, tokens, dim]);
        const each = shared.tile([1, heads / kvHeads, 1, 1]).reshape([heads, tokens, dim]);
        return weights.matMul(each).transpose([1, 0, 2]) as Tensor3D;
      });
    const cuSeqlens = [0, tokens];
    const close = (a: Tensor3D, b: Tensor3D) => expectClose(a, Float64Array.from(b.dataSync()));
    const fire = {
      w1: tensor3d(randomNumbers(6, 4), [6, 1, 1]).reshape([6, 1]),
      b1: tensor3d(randomNumbers(6, 5), [6, 1, 1]).reshape([6]),
      w2: tensor3d(randomNumbers(6 * heads, 6), [heads, 6, 1]).reshape([heads, 6]),
      b2: tensor3d(randomNumbers(heads, 7), [heads, 1, 1]).reshape([heads]),
      c: tensor3d([0.1], [1, 1, 1]).reshape([1]),
      thresholdMultiplier: tensor3d([1], [1, 1, 1]).reshape([1]),
    } as Extract<Position, { kind: 'fire' }>['parameters'];
    const positions: Position[] = [
      { kind: 'rope', scaling: { kind: 'dynamic', factor: 2, originalContextLength: 16 } },
      { kind: 'fire', initialThreshold: 20, parameters: fire },
    ];
    for (const position of positions) {
      close(mix(softmaxWeights(Q, K, { position })), softmaxAttention(Q, K, V, { cuSeqlens, position }));
    }
    if (tokens > 1) close(mix(stickBreakingWeights(Q, K)), stickBreakingAttention(Q, K, V, { cuSeqlens }).output);
  });
});

it('refuses a text whose matrix would be too large', () => {
  const long = tensor3d(new Float32Array(2049 * 2), [2049, 1, 2]);
  expect(() => stickBreakingWeights(long, long)).toThrow(/2049 tokens are too many, 2048 is the most/);
});
