/** Matrices whose rows are kept in eight bits, in float64. */
import type { Values } from './packed.js';

const LARGEST = 448;

/** The nearest number of e4m3: four bits of exponent (from −6 on), three of mantissa; half to even, at most 448. */
export function e4m3(x: number): number {
  const size = Math.abs(x);
  if (size === 0) return 0;
  const spacing = 2 ** (Math.max(Math.floor(Math.log2(size)), -6) - 3);
  const steps = size / spacing;
  const below = Math.floor(steps);
  const up = steps - below > 0.5 || (steps - below === 0.5 && below % 2 === 1);
  return Math.sign(x) * Math.min((below + (up ? 1 : 0)) * spacing, LARGEST);
}

/** Each row scaled so that its largest magnitude is 448, rounded, and scaled back. */
export function fp8Rows64(x: Values, columns: number): Float64Array {
  const result = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += columns) {
    let largest = 0;
    for (let c = 0; c < columns; c++) largest = Math.max(largest, Math.abs(x[at + c]!));
    if (largest === 0) continue;
    const scale = largest / LARGEST;
    for (let c = 0; c < columns; c++) result[at + c] = e4m3(x[at + c]! / scale) * scale;
  }
  return result;
}

/** x [N, K] · weightᵀ, weight [M, K], both with their rows in eight bits. */
export function product64(x: Values, weight: Values, K: number): Float64Array {
  const [left, right] = [fp8Rows64(x, K), fp8Rows64(weight, K)];
  const [N, M] = [x.length / K, weight.length / K];
  const y = new Float64Array(N * M);
  for (let n = 0; n < N; n++)
    for (let m = 0; m < M; m++) {
      let sum = 0;
      for (let k = 0; k < K; k++) sum += left[n * K + k]! * right[m * K + k]!;
      y[n * M + m] = sum;
    }
  return y;
}
