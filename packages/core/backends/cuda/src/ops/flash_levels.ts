/** Block skipping in levels, flash_levels.cuh: how many tiles each goes over, and where what it keeps lies. */
import { STRETCH_BLOCKS, TILE_ROWS, UNIT_GROUPS } from '../kernel_interface.js';
import { Places } from './places.js';

export interface LevelSettings {
  /** Tokens of the longest document of a call, at least: shorter ones have too little to gain. */
  from: number;
  /** Tiles of 64 keys that a group of 64 queries goes over at a level, the nearest first; one more level goes to the first key. */
  walks: readonly number[];
  /** Where far rows are few, their keys are worked on in parts of so many tiles, or more. */
  partTiles: number;
}
/** For a model trained at 16,384 tokens, by its first layer: docs/performance.md. */
export const LEVELS: LevelSettings = { from: 4097, walks: [10, 40], partTiles: 8 };
const MOST_PARTS = 16;
/** Parts of a level for each of its blocks at most: see parts_of_level. */
const BLOCK_PARTS = 2;

interface Sizes {
  queries: number;
  heads: number;
  dim: number;
  /** 64-row blocks of all documents. */
  rowBlocks: number;
  /** Queries of the longest document. */
  longest: number;
  /** Stretches of all documents: the plan's. */
  stretches: { address: number; count: number };
  /** Blocks of far rows at most. */
  farBlocks: number;
}

export class FlashLevels {
  readonly count: number;
  /** Memory that a call needs. */
  readonly bytes: number;
  /** Where in it what must be zero before the first level lies: rows counted, work handed out, parts done. */
  readonly zeros: { at: number; bytes: number };
  private readonly walks: readonly number[];
  private readonly pairs: number;
  private readonly keptAt: readonly number[];
  private readonly stateAt: number;
  private readonly partsAt: number;

  constructor(
    private readonly sizes: Sizes,
    private readonly settings: LevelSettings,
  ) {
    const { walks, partTiles } = settings;
    if (walks.length === 0 || ![...walks, partTiles].every((tiles) => Number.isInteger(tiles) && tiles > 0))
      throw new Error(
        `levels of ${walks} tiles and parts of ${partTiles}; expected at least one level, and whole tiles`,
      );
    const { queries, heads, dim, rowBlocks, longest, stretches, farBlocks } = sizes;
    const rest = Math.max(1, Math.ceil(longest / TILE_ROWS) - walks.reduce((sum, walk) => sum + walk, 0));
    this.walks = [...walks, rest];
    this.count = this.walks.length;
    this.pairs = stretches.count * heads;
    const places = new Places();
    const far = this.count - 1;
    const zeroBytes = 4 * far * (this.pairs + 1 + UNIT_GROUPS * farBlocks);
    this.zeros = { at: places.place(zeroBytes), bytes: zeroBytes };
    // struct LevelState: of each block where it stopped and which of its rows go on; far of each slot which row that is, and where it stands.
    const blocks = rowBlocks * heads;
    this.keptAt = this.walks.map((_, level) =>
      places.place(4 * (3 * blocks + 1 + (level > 0 ? 2 * queries * heads : 0))),
    );
    this.stateAt = places.place(4 * queries * heads * dim);
    // struct Parts.
    this.partsAt = places.place(4 * BLOCK_PARTS * farBlocks * UNIT_GROUPS * TILE_ROWS * (dim + 3));
    this.bytes = places.bytes;
  }

  /** What a level's launch is told; `memory` is its device address. */
  arguments(memory: number, level: number) {
    const far = this.count - 1;
    const units = memory + this.zeros.at + 4 * far * this.pairs;
    const rowsOf = (one: number) => (one > 0 && one <= far ? memory + this.zeros.at + 4 * (one - 1) * this.pairs : 0);
    return {
      nearer: level > 0 ? memory + this.keptAt[level - 1]! : 0,
      kept: memory + this.keptAt[level]!,
      stretches: this.sizes.stretches.address,
      count: rowsOf(level),
      nextCount: rowsOf(level + 1),
      unit: units + 4 * Math.max(0, level - 1),
      state: memory + this.stateAt,
      parts: memory + this.partsAt,
      partsDone: units + 4 * (far + UNIT_GROUPS * this.sizes.farBlocks * Math.max(0, level - 1)),
      stretchCount: this.sizes.stretches.count,
      stretchBlocks: STRETCH_BLOCKS,
      level,
      walk: this.walks[level]!,
      mostParts: MOST_PARTS,
      partTiles: this.settings.partTiles,
    };
  }
}
