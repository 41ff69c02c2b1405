/**
 * exp(x) rounded to the nearest double, as good C libraries (and so Python) give it: `Math.exp` may be one unit off in the
 * last place, which a perplexity would show. Computed in pairs of doubles, the second what the first leaves out
 * (Dekker 1971).
 */

/** A value of twice a double's precision: high + low. */
type Pair = readonly [high: number, low: number];

/** ln 2 in three parts; whole multiples of the first up to 2^20 are exact. */
const LN2_HIGH = 0.6931471803691238;
const LN2_MIDDLE: Pair = [1.9082149292705877e-10, 1.1612227229362532e-26];

/** Halvings of the argument before the series, undone by squaring. */
const HALVINGS = 8;
const TERMS = 11;

export function exp(x: number): number {
  if (!(Math.abs(x) < 700)) return Math.exp(x);
  const k = Math.round(x / Math.LN2);
  const reduced = add(sum(x, -k * LN2_HIGH), product(LN2_MIDDLE, [-k, 0]));
  const small: Pair = [reduced[0] / 2 ** HALVINGS, reduced[1] / 2 ** HALVINGS];
  let value: Pair = [1, 0];
  for (let n = TERMS; n > 0; n--) value = add([1, 0], divide(product(small, value), n));
  for (let i = 0; i < HALVINGS; i++) value = product(value, value);
  return (value[0] + value[1]) * 2 ** k;
}

function sum(a: number, b: number): Pair {
  const high = a + b;
  const part = high - a;
  return [high, a - (high - part) + (b - part)];
}

function add(a: Pair, b: Pair): Pair {
  const [high, low] = sum(a[0], b[0]);
  return normalised(high, low + a[1] + b[1]);
}

function normalised(high: number, low: number): Pair {
  const whole = high + low;
  return [whole, low - (whole - high)];
}

/** Halves of a double whose products are exact. */
function halves(a: number): Pair {
  const wide = 134217729 * a;
  const high = wide - (wide - a);
  return [high, a - high];
}

function exactProduct(a: number, b: number): Pair {
  const high = a * b;
  const [a1, a2] = halves(a);
  const [b1, b2] = halves(b);
  return [high, a2 * b2 - (high - a1 * b1 - a2 * b1 - a1 * b2)];
}

function product(a: Pair, b: Pair): Pair {
  const [high, low] = exactProduct(a[0], b[0]);
  return normalised(high, low + a[0] * b[1] + a[1] * b[0]);
}

function divide(a: Pair, n: number): Pair {
  const high = a[0] / n;
  const [back, rest] = exactProduct(high, n);
  return normalised(high, (a[0] - back - rest + a[1]) / n);
}
