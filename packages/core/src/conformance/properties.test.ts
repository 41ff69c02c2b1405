/** What must hold for stick-breaking with any input, tried by fast-check on both CPU backends. */

import { chooseSeed, seededRandom } from '@stickbreaking/base';
import { native } from '@stickbreaking/core/native';
import { tensor3d, tidy } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { softmaxAttention } from '../attention/softmax.js';
import { stickBreakingAttention } from '../attention/stick_breaking.js';
import { selectBackend } from '../backends/select.js';
import { boundaries } from './packs.js';

const probed = await native.probe();
const headDim = 16;
const heads = 2;
const width = heads * headDim;
const seed = chooseSeed();
const runs = { numRuns: 25 };

interface Packed {
  q: Float32Array;
  k: Float32Array;
  v: Float32Array;
}

function drawn(random: ReturnType<typeof seededRandom>, tokens: number): Packed {
  const draw = () => random.normals(tokens * width);
  return { q: draw(), k: draw(), v: draw() };
}

const joined = (...parts: Float32Array[]) => Float32Array.from(parts.flatMap((part) => [...part]));
const after = (rows: Float32Array, first: number) => Array.from(rows.subarray(first * width));

type Attend = (x: Packed, cuSeqlens: number[], cuSeqlensK?: number[]) => Float32Array;

const attendBy =
  (
    attend: (...args: [...Parameters<typeof stickBreakingAttention>]) => { output: ReturnType<typeof tensor3d> },
  ): Attend =>
  ({ q, k, v }, cuSeqlens, cuSeqlensK = cuSeqlens) =>
    tidy(() => {
      const packed = (x: Float32Array) => tensor3d(x, [x.length / width, heads, headDim]);
      return Float32Array.from(attend(packed(q), packed(k), packed(v), { cuSeqlens, cuSeqlensK }).output.dataSync());
    });

const stick = attendBy(stickBreakingAttention);
const kinds: Record<string, Attend> = {
  'stick-breaking': stick,
  'softmax with ALiBi': attendBy((q, k, v, options) => ({
    output: softmaxAttention(q, k, v, { ...options, position: { kind: 'alibi' } }),
  })),
  'softmax with dynamic RoPE': attendBy((q, k, v, options) => ({
    output: softmaxAttention(q, k, v, {
      ...options,
      position: { kind: 'rope', scaling: { kind: 'dynamic', factor: 2, originalContextLength: 8 } },
    }),
  })),
};

for (const backend of ['cpu', 'native']) {
  const why = backend === 'native' && !probed.available ? probed.why : '';
  describe.skipIf(why !== '')(`on ${backend}${why && ` (skipped: ${why})`}`, () => {
    it('context further left of an exhausted stick changes nothing', async () => {
      await selectBackend(backend);
      await fc.assert(
        fc.property(fc.nat(), fc.integer({ min: 1, max: 150 }), fc.integer({ min: 1, max: 150 }), (n, more, tokens) => {
          const random = seededRandom(seed, `exhausted ${n}`);
          const near = drawn(random, tokens);
          const far = drawn(random, more);
          // The document's first key meets logits of about 150 with every query: it takes what is left of each stick.
          for (let i = 0; i < near.q.length; i++) near.q[i] = near.q[i]! + 10;
          for (let i = 0; i < width; i++) near.k[i] = 3.75 + 0.1 * near.k[i]!;
          const alone = stick(near, [0, tokens]);
          const keys = { q: near.q, k: joined(far.k, near.k), v: joined(far.v, near.v) };
          const longer = stick(keys, [0, tokens], [0, more + tokens]);
          // The first token attended to nothing; every later one meets the key that exhausts its stick.
          const [a, b] = [after(alone, 1), after(longer, 1)];
          expect(Math.max(0, ...a.map((value, i) => Math.abs(value - b[i]!)))).toBeLessThan(1e-5);
        }),
        runs,
      );
    });

    for (const [kind, attend] of Object.entries(kinds)) {
      it(`what other documents contain changes nothing: ${kind}`, async () => {
        await selectBackend(backend);
        const lengths = fc.array(fc.integer({ min: 0, max: 90 }), { minLength: 2, maxLength: 5 });
        await fc.assert(
          fc.property(lengths, fc.nat(), (sizes, n) => {
            const kept = n % sizes.length;
            const random = seededRandom(seed, `others ${n}`);
            const own = drawn(random, sizes[kept]!);
            const cuSeqlens = boundaries(sizes);
            const outputs = [0, 1].map(() => {
              const documents = sizes.map((size, s) => (s === kept ? own : drawn(random, size)));
              const pack = (name: keyof Packed) => joined(...documents.map((document) => document[name]));
              const all = attend({ q: pack('q'), k: pack('k'), v: pack('v') }, cuSeqlens);
              return Array.from(all.subarray(cuSeqlens[kept]! * width, cuSeqlens[kept + 1]! * width));
            });
            expect(outputs[1]).toEqual(outputs[0]);
          }),
          runs,
        );
      });
    }
  });
}
