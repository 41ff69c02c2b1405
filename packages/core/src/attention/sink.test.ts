/** Softmax with a sink against the formula in float64, and its gradients against finite differences of that. */
import { generator } from '@stickbreaking/base';
import { grads, type Tensor, tensor } from '@tensorflow/tfjs-core';
import { describe, expect, it } from 'vitest';
import { selectBackend } from '../index.js';
import { alibiSlopes, type Position } from './positions.js';
import { softmaxAttention } from './softmax.js';

const [tokens, heads, kvHeads, dim] = [7, 4, 2, 4];
const cuSeqlens = [0, 5, 7];
const scale = 0.7;
const random = generator(3, 'sink');
const numbers = (size: number) => Array.from({ length: size }, () => 2 * random() - 1);
const given = {
  q: numbers(tokens * heads * dim),
  k: numbers(tokens * kvHeads * dim),
  v: numbers(tokens * kvHeads * dim),
  sink: [0.5, -2, 3, 0],
};
type Given = typeof given;
const dOutput = numbers(tokens * heads * dim);

/** RoPE's turn of one head's vector at a position, pairs (i, i + D/2). */
function turned(x: readonly number[], position: number): number[] {
  return x.map((value, i) => {
    const [pair, half] = [i % (dim / 2), dim / 2];
    const angle = position * 10_000 ** ((-2 * pair) / dim);
    return value * Math.cos(angle) + (i < half ? -x[i + half]! : x[i - half]!) * Math.sin(angle);
  });
}

function twin({ q, k, v, sink }: Given, kind: Position['kind']): number[] {
  const output = new Array<number>(tokens * heads * dim).fill(0);
  const slopes = alibiSlopes(heads);
  for (let s = 0; s + 1 < cuSeqlens.length; s++) {
    const begin = cuSeqlens[s]!;
    for (let j = begin; j < cuSeqlens[s + 1]!; j++) {
      for (let h = 0; h < heads; h++) {
        const at = (i: number, n: number, head: number) => (i * n + head) * dim;
        const kv = Math.floor((h * kvHeads) / heads);
        const place = (x: number[], i: number) => (kind === 'rope' ? turned(x, i - begin) : x);
        const query = place(q.slice(at(j, heads, h), at(j, heads, h) + dim), j);
        const keys = Array.from({ length: j - begin + 1 }, (_, i) => begin + i);
        const weights = keys.map((i) => {
          const key = place(k.slice(at(i, kvHeads, kv), at(i, kvHeads, kv) + dim), i);
          const bias = kind === 'alibi' ? -slopes[h]! * (j - i) : 0;
          return Math.exp(scale * query.reduce((sum, x, d) => sum + x * key[d]!, 0) + bias);
        });
        const total = weights.reduce((sum, weight) => sum + weight, Math.exp(sink[h]!));
        for (const [n, i] of keys.entries()) {
          for (let d = 0; d < dim; d++)
            output[at(j, heads, h) + d]! += (weights[n]! / total) * v[at(i, kvHeads, kv) + d]!;
        }
      }
    }
  }
  return output;
}

const hasNative = await selectBackend('native').then(
  () => true,
  () => false,
);
const cases = (hasNative ? ['cpu', 'native'] : ['cpu']).flatMap((backend) =>
  (['none', 'alibi', 'rope'] as const).map((kind) => [backend, kind] as const),
);

describe('softmax with a learned sink', () => {
  it.each(cases)('is the formula on %s with position %s, in output and gradients', async (backend, kind) => {
    await selectBackend(backend);
    const tensors = {
      q: tensor(given.q, [tokens, heads, dim]),
      k: tensor(given.k, [tokens, kvHeads, dim]),
      v: tensor(given.v, [tokens, kvHeads, dim]),
      sink: tensor(given.sink, [heads]),
    };
    const attend = (...[q, k, v, sink]: Tensor[]) =>
      softmaxAttention(q!, k!, v!, { cuSeqlens, scale, position: { kind }, sink: sink! });
    const inputs = Object.values(tensors);
    const found = attend(...inputs).dataSync();
    for (const [i, value] of twin(given, kind).entries()) expect(found[i]).toBeCloseTo(value, 5);
    const gradients = grads((...all: Tensor[]) => attend(...all))(inputs, tensor(dOutput, [tokens, heads, dim]));
    for (const [n, name] of (['q', 'k', 'v', 'sink'] as const).entries()) {
      const values = gradients[n]!.dataSync();
      expect(values).toHaveLength(given[name].length);
      for (let i = 0; i < values.length; i += name === 'sink' ? 1 : 5) {
        const loss = (step: number) => {
          const moved = given[name].map((value, at) => (at === i ? value + step : value));
          return twin({ ...given, [name]: moved }, kind).reduce((sum, value, o) => sum + value * dOutput[o]!, 0);
        };
        expect(values[i], `${name} ${i}`).toBeCloseTo((loss(1e-4) - loss(-1e-4)) / 2e-4, 4);
      }
    }
  });
});
