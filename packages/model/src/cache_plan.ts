/** Where the new tokens of several cached documents go, and where the keys lie that they attend to. */
import { UserError } from '@stickbreaking/base';
import { type KeyValueCache, type LayerPages, PAGE_TOKENS } from './cache.js';

/** What the layers of one forward pass are told of the caches. */
export interface CachePlan {
  layer(index: number): LayerPages;
  /** [S+1] boundaries of the documents among the new tokens. */
  cuSeqlens: Int32Array;
  /** [S+1] the same among all of their keys. */
  cuSeqlensK: Int32Array;
  /** [S] tokens that each document had before. */
  firstPositions: Int32Array;
  /** [N] where the new tokens' keys and values go. */
  slots: Int32Array;
  /** [M] where all keys of the documents lie, end to end. */
  keySlots(): Int32Array;
  /** [S] tokens of each document, and [S·B] its pages. */
  lengths: Int32Array;
  table: Int32Array;
  /** Whether every document is new, so that the new tokens' keys are all there are. */
  fresh: boolean;
  /** Whether every document has exactly one new token. */
  single: boolean;
}

/**
 * Extends every cache by its document's new tokens.
 *
 * @param caches one for each document
 * @throws UserError if they are not as many as the documents, or do not belong together
 */
export function planCaches(caches: readonly KeyValueCache[], cuSeqlens: Int32Array): CachePlan {
  const documents = cuSeqlens.length - 1;
  if (caches.length !== documents) {
    throw new UserError(`${caches.length} caches for ${documents} documents; expected one for each.`);
  }
  if (new Set(caches).size < documents) throw new UserError('A cache is named for two documents; fork it for each.');
  const [first] = caches;
  if (!first || !caches.every((one) => one.isBeside(first))) {
    throw new UserError(first ? 'The caches are of different models.' : 'A cache, but no document.');
  }
  const firstPositions = Int32Array.from(caches, ({ length }) => length);
  const pages = caches.map((cache, s) => cache.extend(cuSeqlens[s + 1]! - cuSeqlens[s]!));
  const lengths = Int32Array.from(caches, ({ length }) => length);
  const slot = (s: number, position: number) =>
    pages[s]![Math.floor(position / PAGE_TOKENS)]! * PAGE_TOKENS + (position % PAGE_TOKENS);
  const slots = new Int32Array(cuSeqlens[documents]!);
  const cuSeqlensK = new Int32Array(documents + 1);
  for (let s = 0; s < documents; s++) {
    cuSeqlensK[s + 1] = cuSeqlensK[s]! + lengths[s]!;
    const begin = cuSeqlens[s]!;
    for (let row = begin; row < cuSeqlens[s + 1]!; row++) slots[row] = slot(s, firstPositions[s]! + row - begin);
  }
  let keySlots: Int32Array | undefined;
  // A power of two, so that the steps of generation seldom differ in shape.
  const width = 2 ** Math.ceil(Math.log2(Math.max(1, ...pages.map((own) => own.length))));
  const table = new Int32Array(documents * width);
  for (const [s, own] of pages.entries()) table.set(own, s * width);
  return {
    layer: (index) => first.store.layer(index),
    ...{ cuSeqlens, cuSeqlensK, firstPositions, slots, lengths, table },
    keySlots: () => {
      keySlots ??= allSlots(cuSeqlensK, slot);
      return keySlots;
    },
    fresh: firstPositions.every((position) => position === 0),
    single: cuSeqlens.every((at, s) => at === s),
  };
}

function allSlots(cuSeqlensK: Int32Array, slot: (s: number, position: number) => number): Int32Array {
  const slots = new Int32Array(cuSeqlensK[cuSeqlensK.length - 1]!);
  for (let s = 0; s + 1 < cuSeqlensK.length; s++) {
    for (let i = cuSeqlensK[s]!; i < cuSeqlensK[s + 1]!; i++) slots[i] = slot(s, i - cuSeqlensK[s]!);
  }
  return slots;
}
