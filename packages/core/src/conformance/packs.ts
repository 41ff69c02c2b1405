/** The packs of the conformance suite: document lengths, and q and k with logits of a wanted size. */
import type { Random } from '@stickbreaking/base';
import { dot, forEachQuery, type PackedLayout } from './float64/packed.js';

/** Document lengths in queries, and in keys where they are more. */
export interface Pack {
  name: string;
  queries: readonly number[];
  keys: readonly number[];
}

function pack(name: string, queries: readonly number[], keys: readonly number[] = queries): Pack {
  return { name, queries, keys };
}

export const packs = {
  short: pack('documents of 1 to 65', [64, 1, 63, 2, 65]),
  mixed: pack('documents of 1 to 1000', [63, 1, 1000, 2, 64, 500, 65]),
  /** Far rows of several stretches (flash_levels.cuh), one of them not full, and beside a short document. */
  long: pack('documents of 1500 and 200', [1500, 200]),
  /** Queries after cached keys: one token at a time, a chunk, a document whose turn it is not, one without a cache. */
  cached: pack('queries after cached keys', [1, 65, 0, 3, 64, 1], [400, 130, 9, 3, 321, 1]),
  /** More documents than blocks, some of them empty. */
  many: pack(
    'hundreds of documents',
    Array.from({ length: 300 }, (_, i) => (i * 5) % 9),
  ),
};

export function boundaries(lengths: readonly number[]): number[] {
  const result = [0];
  for (const length of lengths) result.push(result[result.length - 1]! + length);
  return result;
}

export type Logits =
  /** Of about unit variance. */
  | 'usual'
  /**
   * Around −3: a stick lasts for some hundred keys, across several blocks, and is exhausted before a long document's
   * first.
   */
  | 'faint'
  /**
   * About 0, so that a stick lasts for some keys, but around −3 in every seventh query and around −6 in a few, whose sticks outlast a
   * document.
   */
  | 'far in some queries'
  /** Of both signs, the largest ±200. */
  | 'extreme'
  /** Around −3, but now and then a key of +150 between two of −150: 2^z overflows beside one that underflows. */
  | 'lone'
  /** All from 100 to 200: the nearest key takes everything. */
  | 'high'
  /** All from −200 to −100: nobody takes anything. */
  | 'low';

/** q and k for a layout, with logits q·k·scale as asked. */
export function queriesAndKeys(random: Random, layout: PackedLayout, logits: Logits) {
  const { heads, kvHeads, headDim, cuSeqlens, cuSeqlensK, scale } = layout;
  const q = random.normals(cuSeqlens[cuSeqlens.length - 1]! * heads * headDim);
  const k = random.normals(cuSeqlensK[cuSeqlensK.length - 1]! * kvHeads * headDim);
  if (logits === 'usual') return { q, k };
  if (logits === 'faint') {
    for (let i = 0; i < q.length; i++) q[i] = 1 + 0.5 * q[i]!;
    for (let i = 0; i < k.length; i++) k[i] = (-3 / (scale * headDim)) * (1 + 0.5 * k[i]!);
    return { q, k };
  }
  if (logits === 'far in some queries') {
    const width = heads * headDim;
    for (let i = 0; i < q.length; i++) {
      const query = Math.floor(i / width);
      const middle = query % 61 === 1 ? -6 : query % 7 === 2 ? -3 : 0;
      q[i] = middle === 0 ? 0.5 * q[i]! : (middle / (scale * headDim)) * (1 + 0.5 * q[i]!);
    }
    for (let i = 0; i < k.length; i++) k[i] = 1 + 0.5 * k[i]!;
    return { q, k };
  }
  if (logits === 'lone') {
    const width = (k.length / cuSeqlensK[cuSeqlensK.length - 1]!) | 0;
    for (let i = 0; i < q.length; i++) q[i] = 1 + 0.1 * q[i]!;
    for (let i = 0; i < k.length; i++) {
      const place = Math.floor(i / width) % 13;
      const middle = place === 5 ? 150 : place === 4 || place === 6 ? -150 : -3;
      k[i] = (middle / (scale * headDim)) * (1 + 0.1 * k[i]!);
    }
    return { q, k };
  }
  if (logits !== 'extreme') {
    // Vectors near one direction: the angle between any two is small.
    for (let i = 0; i < q.length; i++) q[i] = 1 + 0.1 * q[i]!;
    for (let i = 0; i < k.length; i++) k[i] = (1 + 0.1 * k[i]!) * (logits === 'low' ? -1 : 1);
  }
  let largest = 0;
  forEachQuery(layout, ({ position, q: at, key }) => {
    for (let i = 0; i <= position; i++) largest = Math.max(largest, Math.abs(scale * dot(q, at, k, key(i), headDim)));
  });
  for (let i = 0; i < q.length; i++) q[i]! *= 200 / largest;
  return { q, k };
}
