/** What a chart does to a run's numbers before they are drawn: smoothing, thinning out, the range without outliers. */

/** A line's points, in the order of x. */
export interface Line {
  x: number[];
  y: (number | null)[];
}

/**
 * An exponential moving average that begins without bias, as TensorBoard draws it: each value is the mean of those up to
 * it, weighted by `weight` to the power of their distance. Null stays null.
 *
 * @param weight 0, no smoothing, up to 1
 */
export function smooth(values: readonly (number | null)[], weight: number): (number | null)[] {
  if (weight <= 0) return [...values];
  let [sum, of] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + value;
    of = weight * of + 1;
    return sum / of;
  });
}

/** The part between `from` and `to`, with one point more on either side, so that lines reach the edge. */
export function within({ x, y }: Line, from: number, to: number): Line {
  let begin = x.findIndex((value) => value >= from);
  if (begin < 0) begin = x.length;
  let end = x.findIndex((value) => value > to);
  if (end < 0) end = x.length;
  return { x: x.slice(Math.max(0, begin - 1), end + 1), y: y.slice(Math.max(0, begin - 1), end + 1) };
}

/**
 * At most about `most` points that look the same: of each stretch the first, the lowest, the highest and the last.
 */
export function thinOut({ x, y }: Line, most: number): Line {
  if (x.length <= most) return { x, y };
  const stretch = Math.ceil(x.length / Math.max(1, Math.floor(most / 4)));
  const kept: number[] = [];
  for (let begin = 0; begin < x.length; begin += stretch) {
    const end = Math.min(x.length, begin + stretch);
    let [low, high] = [begin, begin];
    for (let i = begin; i < end; i++) {
      const value = y[i];
      if (value === null || value === undefined) continue;
      if (y[low] === null || value < y[low]!) low = i;
      if (y[high] === null || value > y[high]!) high = i;
    }
    kept.push(...[...new Set([begin, low, high, end - 1])].sort((a, b) => a - b));
  }
  return { x: kept.map((i) => x[i]!), y: kept.map((i) => y[i]!) };
}

/** At most about `most` points, the last of each stretch: of a smooth line they are enough. */
export function sampleOf({ x, y }: Line, most: number): Line {
  const stretch = Math.ceil(x.length / most);
  const kept = x.map((_, i) => i).filter((i) => (x.length - 1 - i) % stretch === 0);
  return { x: kept.map((i) => x[i]!), y: kept.map((i) => y[i]!) };
}

/** The range that holds all but the lowest and highest twentieth of the values; undefined where there are none. */
export function rangeWithoutOutliers(values: readonly (number | null)[]): [number, number] | undefined {
  const sorted = values.filter((value): value is number => value !== null).sort((a, b) => a - b);
  if (sorted.length === 0) return undefined;
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!;
  return [at(0.05), at(0.95)];
}

/** The value at the last point up to `at`, or the first there is; undefined where a line has none. */
export function valueAt({ x, y }: Line, at: number): number | undefined {
  let [low, high] = [0, x.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle]! <= at) low = middle + 1;
    else high = middle;
  }
  for (let i = Math.max(0, low - 1); i >= 0; i--) if (y[i] !== null) return y[i]!;
  return y.find((value) => value !== null) ?? undefined;
}
