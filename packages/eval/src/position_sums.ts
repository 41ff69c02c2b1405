import type { PositionLoss } from './scoring.js';

/** Losses by their place in the window. */
export class PositionSums {
  private readonly nll: Float64Array;
  private readonly tokens: Float64Array;

  constructor(length: number) {
    this.nll = new Float64Array(length);
    this.tokens = new Float64Array(length);
  }

  add(position: number, loss: number): void {
    this.nll[position]! += loss;
    this.tokens[position]!++;
  }

  /** Buckets that double: position 0, 1, 2–3, 4–7, … */
  buckets(): PositionLoss[] {
    const sum = (values: Float64Array) => values.reduce((a, b) => a + b, 0);
    const buckets: PositionLoss[] = [];
    for (let begin = 0, end = 1; begin < this.nll.length; begin = end, end = Math.min(2 * end, this.nll.length)) {
      const tokens = sum(this.tokens.subarray(begin, end));
      const nll = sum(this.nll.subarray(begin, end)) / tokens;
      if (tokens > 0) buckets.push({ begin, end, nll, tokens });
    }
    return buckets;
  }
}
