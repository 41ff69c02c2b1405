/** The backward of rows that look far, in groups, flash_far.cuh: what its kernels are told, and where what they keep lies. */
import { FAR_CLASSES, TILE_ROWS } from '../kernel_interface.js';
import { Places } from './places.js';

export interface FarSettings {
  /** Tokens of the longest document of a call, at least: shorter ones have too little to gain. */
  from: number;
  /** Tiles of 64 keys, the nearest of each 64-row block of queries, that are worked on by blocks of neighbours; at most MOST_NEAR. */
  near: number;
  /** Pairs of a group and a tile at most, of all pairs of a 64-row block and a tile; with more of them nothing is gathered. */
  share: number;
  /** What such a pair costs, in pairs of a 64-row block and a tile that are left out for it: groups are made only where that pays. */
  cost: number;
}
/** For a model trained at 16,384 tokens: docs/performance.md. */
export const FAR: FarSettings = { from: 4097, near: 8, share: 3 / 8, cost: 7 / 5 };
/** A block of neighbours has three 64-row blocks, and a bit for each of their tiles: struct FarSums. */
const MOST_NEAR = 28;
/** Each leaves two numbers a row: 512 MiB in all. */
const MOST_PAIRS = 2 ** 20;

interface Sizes {
  queries: number;
  heads: number;
  kvHeads: number;
  dim: number;
  /** 64-row blocks of all documents, and pairs of one of them and a tile that it may see. */
  rowBlocks: number;
  tiles: number;
  /** Device address of the stretches of all documents: the plan's. */
  stretches: number;
}

export class FarRows {
  /** Memory that a call needs. */
  readonly bytes: number;
  /** Where in it what must be zero before the first kernel lies. */
  readonly zeros: { at: number; bytes: number };
  private readonly at: Record<(typeof PARTS)[number], number>;
  private readonly room: number;

  constructor(
    private readonly sizes: Sizes,
    private readonly settings: FarSettings,
  ) {
    const { queries, heads, kvHeads, dim, rowBlocks, tiles } = sizes;
    if (!(Number.isInteger(settings.near) && settings.near > 0 && settings.near <= MOST_NEAR))
      throw new Error(`${settings.near} near tiles of a block; expected 1 to ${MOST_NEAR}`);
    this.room = Math.max(1, Math.min(MOST_PAIRS, Math.ceil(settings.share * tiles * heads)));
    const bytes: Record<(typeof PARTS)[number], number> = {
      // struct FarCounts.
      farCounts: 8 * 4 + 2 * FAR_CLASSES * 4,
      farTiles: 4 * kvHeads * rowBlocks,
      nearStop: 4 * heads * rowBlocks,
      // struct FarGroup, struct Slot.
      farGroups: 32 * heads * rowBlocks,
      farSlots: 8 * heads * queries,
      farGroupLists: 4 * FAR_CLASSES * heads * rowBlocks,
      farTileLists: 4 * FAR_CLASSES * kvHeads * rowBlocks,
      farEnds: 8 * heads * queries,
      state: 4 * heads * queries * dim,
      carries: 8 * TILE_ROWS * this.room,
    };
    const places = new Places();
    this.at = Object.fromEntries(PARTS.map((name) => [name, places.place(bytes[name])])) as typeof this.at;
    this.bytes = places.bytes;
    this.zeros = { at: this.at.farCounts, bytes: this.at.farTiles + bytes.farTiles };
  }

  /** What the kernels are told; `memory` is its device address. */
  arguments(memory: number) {
    const addresses = Object.fromEntries(PARTS.map((name) => [name, memory + this.at[name]])) as typeof this.at;
    return {
      ...addresses,
      stretches: this.sizes.stretches,
      walk: this.settings.near,
      farRoom: this.room,
      farCost: this.settings.cost,
    };
  }
}

/** Zeros first. */
const PARTS = [
  'farCounts',
  'farTiles',
  'nearStop',
  'farGroups',
  'farSlots',
  'farGroupLists',
  'farTileLists',
  'farEnds',
  'state',
  'carries',
] as const;
