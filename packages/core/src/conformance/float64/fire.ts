/**
 * FIRE's bias (https://arxiv.org/abs/2310.04418, appendix: the authors' PyTorch module) with its gradients in float64.
 */
import type { Values } from './packed.js';

export interface Fire64 {
  /** [W], [W], [H, W], [H], and two numbers */
  w1: Values;
  b1: Values;
  w2: Values;
  b2: Values;
  c: Values;
  thresholdMultiplier: Values;
  initialThreshold: number;
}

export const fireGradientNames = ['w1', 'b1', 'w2', 'b2', 'c', 'thresholdMultiplier'] as const;
type Name = (typeof fireGradientNames)[number];

/** The relative error of x after a few float32 roundings. */
const ROUNDING = 1e-6;

/**
 * The gradients of FIRE's parameters: sums over all pairs of tokens. That of `b2` is zero, since softmax ignores a
 * constant; so each comes with the root of the sum of its squared terms, against which errors are measured. A unit
 * within float32's rounding of its knot may count as on or off, so its contribution is summed separately.
 */
export class FireGradients {
  readonly sums: Record<Name, Float64Array>;
  private readonly squares: Record<Name, number> = { w1: 0, b1: 0, w2: 0, b2: 0, c: 0, thresholdMultiplier: 0 };

  private readonly undecided: Record<Name, number> = { w1: 0, b1: 0, w2: 0, b2: 0, c: 0, thresholdMultiplier: 0 };

  constructor(private readonly fire: Fire64) {
    const like = (name: Name) => new Float64Array(fire[name].length);
    this.sums = {
      w1: like('w1'),
      b1: like('b1'),
      w2: like('w2'),
      b2: like('b2'),
      c: like('c'),
      thresholdMultiplier: like('thresholdMultiplier'),
    };
  }

  private add(name: Name, index: number, term: number): void {
    this.sums[name][index]! += term;
    this.squares[name] += term * term;
  }

  /** What errors are relative to, if `tolerance` of it is allowed. */
  scale(name: Name, tolerance: number): number {
    return Math.max(Math.sqrt(this.squares[name]), this.undecided[name] / tolerance);
  }

  /** Adds the contribution of one pair's bias gradient. */
  addPair(head: number, distance: number, position: number, dBias: number): void {
    const { w1, b1, w2 } = this.fire;
    const { x, dxdc, dxdMultiplier } = normalisedDistance(this.fire, distance, position);
    const width = w1.length;
    this.add('b2', head, dBias);
    let dx = 0;
    for (let w = 0; w < width; w++) {
      const before = w1[w]! * x + b1[w]!;
      if (Math.abs(before) <= ROUNDING * (Math.abs(w1[w]! * x) + Math.abs(b1[w]!))) {
        const dBefore = Math.abs(dBias * w2[head * width + w]!);
        this.undecided.w1 += dBefore * x;
        this.undecided.b1 += dBefore;
        this.undecided.c += dBefore * Math.abs(w1[w]! * dxdc);
        this.undecided.thresholdMultiplier += dBefore * Math.abs(w1[w]! * dxdMultiplier);
      }
      if (before <= 0) continue;
      this.add('w2', head * width + w, dBias * before);
      const dBefore = dBias * w2[head * width + w]!;
      this.add('w1', w, dBefore * x);
      this.add('b1', w, dBefore);
      dx += dBefore * w1[w]!;
    }
    this.add('c', 0, dx * dxdc);
    this.add('thresholdMultiplier', 0, dx * dxdMultiplier);
  }
}

export function fireBias64(fire: Fire64, head: number, distance: number, position: number): number {
  const { x } = normalisedDistance(fire, distance, position);
  const width = fire.w1.length;
  let bias = fire.b2[head]!;
  for (let w = 0; w < width; w++) bias += fire.w2[head * width + w]! * Math.max(0, fire.w1[w]! * x + fire.b1[w]!);
  return bias;
}

/** x = log(|c·distance| + 1) / (log(|c·max(position, |multiplier·L|)| + 1) + 1e-6), and its two slopes. */
function normalisedDistance(fire: Fire64, distance: number, position: number) {
  const c = fire.c[0]!;
  const product = fire.thresholdMultiplier[0]! * fire.initialThreshold;
  const threshold = Math.abs(product);
  const longest = Math.max(position, threshold);
  const above = Math.log(Math.abs(c * distance) + 1);
  const below = Math.log(Math.abs(c * longest) + 1) + 1e-6;
  const slope = (value: number) => (Math.sign(c) * value) / (Math.abs(c * value) + 1);
  const dBelowdLongest = Math.abs(c) / (Math.abs(c * longest) + 1);
  const dLongest = threshold > position ? Math.sign(product) * fire.initialThreshold : 0;
  return {
    x: above / below,
    dxdc: slope(distance) / below - (above * slope(longest)) / below ** 2,
    dxdMultiplier: (-above * dBelowdLongest * dLongest) / below ** 2,
  };
}
