/** The conformance suite's cases of sticks that are broken in two steps: nearer keys first, then what is farther. */
import { concat, mul, onesLike, slice, type Tensor, tidy } from '@tensorflow/tfjs-core';
import { runKernel } from '../run_kernel.js';
import { drawn, type Sizes, sizesInWords, stickBreakingResults } from './attention_cases.js';
import type { ConformanceCase, PreparedCase } from './case.js';
import { stickBreaking64 } from './float64/stick_breaking.js';
import { boundaries, packs } from './packs.js';

/** Of each document the keys at its queries are nearer, those before them farther. */
function composedCase(sizes: Sizes, attendCurrent: boolean): ConformanceCase {
  const { pack, logits = 'usual' } = sizes;
  const lengths = pack.queries.map((queries, i) => ({ near: queries, far: pack.keys[i]! - queries }));
  /** Rows of all documents' near or far keys, from rows of all keys. */
  const part = (x: Tensor, which: 'near' | 'far') =>
    concat(
      lengths.map(({ near, far }, i) => {
        const begin = boundaries(pack.keys)[i]! + (which === 'near' ? far : 0);
        return slice(x, [begin, 0, 0], [which === 'near' ? near : far, x.shape[1]!, x.shape[2]!]);
      }),
    );
  const joined = (near: Tensor, far: Tensor) => {
    const [nearAt, farAt] = [boundaries(pack.queries), boundaries(lengths.map((one) => one.far))];
    const rows = (x: Tensor, at: number[], i: number) =>
      slice(x, [at[i]!, 0, 0], [at[i + 1]! - at[i]!, x.shape[1]!, x.shape[2]!]);
    return concat(lengths.flatMap((_, i) => [rows(far, farAt, i), rows(near, nearAt, i)]));
  };
  return {
    name: `stick-breaking in two steps${attendCurrent ? ' with the current token' : ''}, ${sizesInWords(sizes)}`,
    extreme: !['usual', 'faint'].includes(logits),
    prepare(random, input): PreparedCase {
      const { layout, values, tensors } = drawn(random, input, sizes);
      const wanted = stickBreaking64(values, layout, attendCurrent);
      const { headDim, scale } = layout;
      return {
        expected: stickBreakingResults(wanted, headDim),
        run: () =>
          tidy(() => {
            const { q, k, v, dOutput, dRemainder } = tensors();
            const cuSeqlens = Int32Array.from(boundaries(pack.queries));
            const far = {
              ...{ cuSeqlens, scale },
              cuSeqlensK: Int32Array.from(boundaries(lengths.map((one) => one.far))),
            };
            const near = { cuSeqlens, cuSeqlensK: cuSeqlens, scale, attendCurrent };
            const nearKeys = { q, k: part(k, 'near'), v: part(v, 'near') };
            const farKeys = { q, k: part(k, 'far'), v: part(v, 'far') };
            const [first, stick, kept] = runKernel('StickBreakingAttention', nearKeys, near);
            const [second, remainder, saved] = runKernel('StickBreakingFarther', { ...farKeys, stick }, far);
            const farther = mul(remainder, dRemainder);
            const [ofFar, dkFar, dvFar, nearer] = runKernel(
              'StickBreakingFartherGrad',
              { ...farKeys, stick, saved, dOutput, farther },
              far,
            );
            const [ofNear, dkNear, dvNear] = runKernel(
              'StickBreakingAttentionGrad',
              { ...nearKeys, remainder: nearer, dRemainder: onesLike(nearer), saved: kept, dOutput },
              near,
            );
            const sums = [first.add(second), remainder, ofNear.add(ofFar)];
            return [...sums, joined(dkNear, dkFar), joined(dvNear, dvFar)];
          }),
      };
    },
  };
}

export function composedCases(): ConformanceCase[] {
  const { cached } = packs;
  return [
    composedCase({ pack: cached, headDim: 64, heads: [4, 2], logits: 'faint' }, false),
    composedCase({ pack: cached, headDim: 32, heads: [2, 1] }, true),
    composedCase({ pack: cached, headDim: 128, heads: [2, 2], logits: 'faint' }, false),
    composedCase({ pack: cached, headDim: 50, heads: [3, 1], logits: 'faint' }, true),
    ...(['extreme', 'lone', 'high', 'low'] as const).map((logits) =>
      composedCase({ pack: cached, headDim: 64, heads: [2, 1], logits }, false),
    ),
  ];
}
