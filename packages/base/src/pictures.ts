/** What pictures of curves share, in reports and on pages: colours, ticks of logarithmic axes, places of labels. */

/**
 * Colours of curves after Okabe and Ito, which colour-blind readers can tell apart: darker on white, lighter in the
 * dark, so that each stands out from its ground by 3 to 1 at least.
 */
export const curveColours = {
  light: ['#0072B2', '#D55E00', '#00785a', '#b5508a', '#9a6a00', '#2a8fc9', '#333333', '#777777'],
  dark: ['#56B4E9', '#ff8a4c', '#2fc79a', '#e59bc7', '#E69F00', '#9fd4f5', '#e8e8e8', '#a0a0a0'],
} as const;

/** Leading digits of ticks in every power of ten, from coarse to fine. */
const leading = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [1, 2, 3, 4, 5, 6, 7, 8, 9]] as const;

/** An axis needs at least so many ticks to be read. */
const FEWEST = 4;

/** No more than this share of an axis should lie outside of its values. */
const EMPTY = 0.2;

/**
 * Ticks of a logarithmic axis, the first at or below the least value and the last at or above the greatest: as the
 * axis goes from one to the other, both of its ends are marked.
 *
 * @param low the least value, above 0
 * @param high the greatest
 * @param most ticks that there is room for, at least 4
 */
export function logTicks(low: number, high: number, most = 12): number[] {
  const [bottom, top] = low < high ? [low, high] : [low / 1.1, high * 1.1];
  const even = top < 3 * bottom ? evenTicks(bottom, top, most) : [];
  const candidates = [...leading.map((digits) => between(digits, bottom, top)), ...even];
  const fitting = candidates.filter((ticks) => ticks.length >= FEWEST && ticks.length <= most);
  const empty = (ticks: readonly number[]) => 1 - Math.log(top / bottom) / Math.log(ticks.at(-1)! / ticks[0]!);
  const [least] = [...fitting].sort((a, b) => empty(a) - empty(b));
  const found = fitting.find((ticks) => empty(ticks) <= EMPTY) ?? least;
  if (found) return found;
  const decades = candidates[0]!; // of more powers of ten than there is room for
  const stride = Math.ceil((decades.length - 1) / (most - 1));
  const count = Math.ceil((decades.length - 1) / stride) + 1;
  const [first] = decades as [number];
  return Array.from({ length: count }, (_, i) => tickOf(1, Math.round(Math.log10(first)) + i * stride));
}

/** Ticks at equal distances, for a range so narrow that powers of ten say nothing. */
function evenTicks(low: number, high: number, most: number): number[][] {
  const power = Math.floor(Math.log10(high - low));
  const steps = [power, power - 1].flatMap((p) => [5, 2, 1].map((digit) => tickOf(digit, p)));
  return steps.flatMap((step) => {
    const [first, last] = [Math.floor(low / step + 1e-9), Math.ceil(high / step - 1e-9)];
    if (first <= 0 || last - first >= most) return [];
    return [Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)))];
  });
}

/** The digits in every decade, from the greatest tick that is not above `low` to the least not below `high`. */
function between(digits: readonly number[], low: number, high: number): number[] {
  const [first, last] = [Math.floor(Math.log10(low)) - 1, Math.ceil(Math.log10(high)) + 1];
  const all = Array.from({ length: last - first + 1 }, (_, i) =>
    digits.map((digit) => tickOf(digit, first + i)),
  ).flat();
  const begin = all.findIndex((tick) => tick > low * (1 + 1e-9)) - 1;
  const end = all.findIndex((tick) => tick >= high * (1 - 1e-9));
  return all.slice(begin, end + 1);
}

/** 3 · 10⁻² as 0.03, not as 0.030000000000000002. */
const tickOf = (digit: number, power: number) => Number(`${digit}e${power}`);

/**
 * Ticks at powers of two, and at both ends of the values also where these are none; where there is no room for all,
 * every second, third … of them.
 *
 * @param most ticks that there is room for, at least 2
 */
export function powerOfTwoTicks(low: number, high: number, most = 12): number[] {
  const [first, last] = [Math.ceil(Math.log2(low)), Math.floor(Math.log2(high))];
  const powers = Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => 2 ** (first + i));
  const inner = powers.filter((power) => power > low && power < high);
  const stride = Math.max(1, Math.ceil((inner.length + 1) / (most - 1)));
  const apart = 2 ** (0.6 * stride);
  const kept = inner.filter((power, i) => (i + 1) % stride === 0 && power / low >= apart && high / power >= apart);
  return low < high ? [low, ...kept, high] : [low];
}

/**
 * Moves labels apart that would cover each other, as little as possible and in their order: those that touch stand
 * around the middle of where they should be.
 *
 * @param wanted where the middle of each should be, in pixels
 * @param height of one label
 * @returns the middles, between `top` and `bottom` as long as all fit there
 */
export function placeLabels(wanted: readonly number[], height: number, top: number, bottom: number): number[] {
  const order = wanted.map((_, i) => i).sort((a, b) => wanted[a]! - wanted[b]! || a - b);
  const groups: { labels: number[]; sum: number; first: number }[] = [];
  for (const i of order) {
    let group = { labels: [i], sum: wanted[i]!, first: clamped(wanted[i]!, 1) };
    for (
      let last = groups.at(-1);
      last && last.first + last.labels.length * height > group.first;
      last = groups.at(-1)
    ) {
      groups.pop();
      const labels = [...last.labels, ...group.labels];
      const sum = last.sum + group.sum - last.labels.length * group.labels.length * height;
      group = { labels, sum, first: clamped(sum / labels.length, labels.length) };
    }
    groups.push(group);
  }
  const placed = new Array<number>(wanted.length);
  for (const { labels, first } of groups) {
    for (const [k, i] of labels.entries()) placed[i] = first + k * height;
  }
  return placed;

  /** Where the first of so many labels stands that all of them are inside. */
  function clamped(first: number, count: number): number {
    return Math.max(top + height / 2, Math.min(first, bottom - height / 2 - (count - 1) * height));
  }
}
