/** How stick-breaking attention leaves out keys that no stick reaches: STICKBREAKING_BLOCK_SKIPPING. */
import { CudaError } from '../errors.js';
import { FAR, type FarSettings } from './flash_far.js';
import { LEVELS, type LevelSettings } from './flash_levels.js';

export interface BlockSkipping {
  /** Whether tiles of keys are skipped for which every row's stick is exhausted. */
  blockSkipping: boolean;
  /** How the forward of long documents gathers rows that look far, if it does. */
  levels: LevelSettings | undefined;
  /** The same of the backward. */
  farRows: FarSettings | undefined;
}

/**
 * @param text nothing: rows that look far are gathered; `blocks`: every block of queries goes as far as its farthest row; `0`: every tile
 * @throws CudaError where it is something else
 */
export function blockSkippingBy(text = process.env.STICKBREAKING_BLOCK_SKIPPING): BlockSkipping {
  const apart = { levels: undefined, farRows: undefined };
  if (!text) return { blockSkipping: true, levels: LEVELS, farRows: FAR };
  if (text === 'blocks') return { blockSkipping: true, ...apart };
  if (text === '0') return { blockSkipping: false, ...apart };
  throw new CudaError(`STICKBREAKING_BLOCK_SKIPPING is '${text}'; expected 'blocks', '0' or nothing.`);
}
