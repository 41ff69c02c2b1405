/** Several seeds as one curve: their mean, with the lowest and highest around it. */
import type { CurvePoint } from '@stickbreaking/eval';
import type { TextEvaluation } from './evaluate.js';

/** Curves of equal x become one. */
export function spreadOf(curves: readonly (readonly { x: number; y: number }[])[]): CurvePoint[] {
  const [first = []] = curves;
  return first.map(({ x }, i) => {
    const values = curves.flatMap((curve) => curve[i]?.y ?? []);
    const y = mean(values);
    return values.length > 1 ? { x, y, low: Math.min(...values), high: Math.max(...values) } : { x, y };
  });
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The mean over seeds of the loss at a length. */
export function meanNll(results: readonly TextEvaluation[], length: number): number {
  return mean(results.flatMap((result) => result.lengths.find((one) => one.length === length)?.nll ?? []));
}
