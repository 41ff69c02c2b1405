/** What becomes of numbers that are kept in fewer bits, in plain tfjs ops. */
import { abs, add, clipByValue, div, less, max, maximum, mul, sub, type Tensor, where } from '@tensorflow/tfjs-core';

/** The largest number of e4m3. */
const LARGEST = 448;
/** Below it e4m3's numbers are evenly spaced. */
const LEAST_NORMAL = 2 ** -6;
/** Added and subtracted in float32, it leaves whole multiples of 2⁻⁹, e4m3's smallest number. */
const EVEN = 1.5 * 2 ** 14;
/** Dekker's factor that splits off all but the four leading bits of a float32's 24. */
const FOUR_BITS = 2 ** 20 + 1;

/** Each row of a matrix [N, C], scaled so that its largest magnitude is 448, rounded to e4m3, and scaled back. */
export function fp8Rows(x: Tensor): Tensor {
  if (x.size === 0) return x;
  // A row of zeros stays one.
  const scale = maximum(div(max(abs(x), 1, true), LARGEST), 2 ** -126);
  return mul(e4m3(div(x, scale)), scale);
}

/** Rounded to the nearest number of e4m3 (four bits of exponent, three of mantissa). */
export function e4m3(x: Tensor): Tensor {
  const wide = mul(x, FOUR_BITS);
  const normal = sub(wide, sub(wide, x));
  const small = sub(add(x, EVEN), EVEN);
  return clipByValue(where(less(abs(x), LEAST_NORMAL), small, normal), -LARGEST, LARGEST);
}

/** Rounded to the nearest bfloat16: Dekker's split at eight of the 24 bits. */
export function bfloat16(x: Tensor): Tensor {
  const wide = mul(x, 2 ** 16 + 1);
  return sub(wide, sub(wide, x));
}
