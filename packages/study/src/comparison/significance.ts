/** What seeds say about a difference. */
import { generator } from '@stickbreaking/base';
import { mean } from '../text/spread.js';

export interface Interval {
  mean: number;
  low: number;
  high: number;
  /** How many seeds both had. */
  seeds: number;
}

const RESAMPLES = 10_000;
/** Of the resamples' means lie within the interval. */
const COVERED = 0.95;

/**
 * The bootstrap interval (percentiles) of the mean of differences, one a seed. Of two seeds it reaches from the one to the
 * other: it contains 0 unless they agree.
 */
export function bootstrapInterval(differences: readonly number[]): Interval {
  const random = generator(differences.length, 'bootstrap');
  const draw = () => differences[Math.floor(random() * differences.length)]!;
  const means = Array.from({ length: RESAMPLES }, () => mean(differences.map(draw))).sort((a, b) => a - b);
  const at = (share: number) => means[Math.round(share * (RESAMPLES - 1))]!;
  const outside = (1 - COVERED) / 2;
  return { mean: mean(differences), low: at(outside), high: at(1 - outside), seeds: differences.length };
}

/** Whether two seeds or more agree that the difference is not 0. */
export const isDecided = ({ low, high, seeds }: Interval) => seeds > 1 && (low > 0 || high < 0);

/** Where a curve of differences falls below 0 for good; undefined where it does not, or is there from the first. */
export function crossing(differences: readonly { x: number; y: number }[]): { from: number; to: number } | undefined {
  const last = differences.findLastIndex(({ y }) => !(y < 0));
  if (last < 0 || last === differences.length - 1) return undefined;
  return { from: differences[last]!.x, to: differences[last + 1]!.x };
}
