/** The arms of a comparison as its report sees them: each with what its best rate gave, by seed. */
import { keptResults } from '../text/rates.js';
import type { ComparisonConfig, ComparisonResult } from './config.js';
import type { Planned } from './plan.js';
import { bootstrapInterval, type Interval } from './significance.js';

export type Results = ReadonlyMap<string, ComparisonResult>;

/** An arm with what its best rate gave, by seed. */
export interface Compared {
  id: string;
  name: string;
  contextLength: number;
  bySeed: ReadonlyMap<number, ComparisonResult>;
}

export function comparedArms({ seeds }: ComparisonConfig, all: readonly Planned[], results: Results): Compared[] {
  const firsts = new Map(all.map((one) => [one.arm.id, one]));
  return [...firsts.values()].flatMap(({ arm, variant }) => {
    const some = all.filter((one) => one.arm.id === arm.id);
    const bySeed = new Map(
      seeds.flatMap((seed) => {
        const [kept] = keptResults(
          some.filter((one) => one.seed === seed),
          seeds[0]!,
          results,
        );
        return kept ? [[seed, kept] as const] : [];
      }),
    );
    return bySeed.size > 0 ? [{ ...arm, contextLength: variant.training.contextLength, bySeed }] : [];
  });
}

export const resultsOf = ({ bySeed }: Compared) => [...bySeed.values()];
const nllAt = ({ lengths }: ComparisonResult, length: number) => lengths.find((one) => one.length === length)?.nll;

/** The loss of one arm minus that of the other, over the seeds that both have; undefined where there are none. */
export function differenceAt(one: Compared, other: Compared, length: number): Interval | undefined {
  const differences = [...one.bySeed].flatMap(([seed, result]) => {
    const there = other.bySeed.get(seed);
    const [a, b] = [nllAt(result, length), there && nllAt(there, length)];
    return a === undefined || b === undefined ? [] : [a - b];
  });
  return differences.length > 0 ? bootstrapInterval(differences) : undefined;
}
