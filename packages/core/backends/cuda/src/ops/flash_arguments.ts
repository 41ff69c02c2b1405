/** What the fused attention kernels are told: the fields of ATTENTION that not every kernel needs. */
import type { Operands } from './flash_tensors.js';

/** What only some of the kernels need; null, or 0, for the others. */
export const ABSENT = {
  output: 0,
  dOutput: 0,
  out: 0,
  dq: 0,
  dk: 0,
  dv: 0,
  dRemainder: 0,
  saved: 0,
  carries: 0,
  slopes: 0,
  /** Room for the sums of FIRE's gradients. */
  fireSums: 0,
  /** Elements between tokens of the gradients. */
  dqStride: 0,
  dkvStride: 0,
  /** The rotary embedding that q and k come from. */
  turnQ: 0,
  turnK: 0,
  /** Biases of keys, and their gradients. */
  keyBias: 0,
  dKeyBias: 0,
  /** Of a level of block skipping, forward: FlashLevels. */
  nearer: 0,
  kept: 0,
  stretches: 0,
  count: 0,
  nextCount: 0,
  unit: 0,
  state: 0,
  parts: 0,
  partsDone: 0,
  stretchCount: 0,
  stretchBlocks: 0,
  level: 0,
  walk: 0,
  mostParts: 0,
  partTiles: 0,
  /** Of the backward with far rows gathered: FarRows. */
  nearStop: 0,
  farGroups: 0,
  farSlots: 0,
  farCounts: 0,
  farGroupLists: 0,
  farTileLists: 0,
  farTiles: 0,
  farEnds: 0,
  farRoom: 0,
  farCost: 0,
};

export type AttentionArguments = Operands & { rowOutput: number } & Partial<typeof ABSENT>;
