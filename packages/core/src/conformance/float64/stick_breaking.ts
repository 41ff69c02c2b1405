/** Stick-breaking attention by its definition, weight by weight, in float64, with its gradients. */
import { addTo, dot, forEachQuery, type PackedLayout, type Values } from './packed.js';

export interface StickBreakingInputs {
  q: Values;
  k: Values;
  v: Values;
  /** The loss's gradient in the output and in the remainder. */
  dOutput: Values;
  dRemainder: Values;
}

/**
 * `A[i] = exp(z[i] − Σ_{k≥i} softplus(z[k]))`, `output = Σ A[i] v[i]`, `remainder = Π (1 − σ(z[k]))`; and with
 * `dÃ[i] = A[i]·(dOutput·v[i])`: `dz[i] = dÃ[i] − σ(z[i])·(Σ_{i'≤i} dÃ[i'] + remainder·dRemainder)`.
 */
export function stickBreaking64(inputs: StickBreakingInputs, layout: PackedLayout, attendCurrent: boolean) {
  const { q, k, v, dOutput, dRemainder } = inputs;
  const { heads, headDim: D, scale } = layout;
  const output = new Float64Array(q.length);
  const remainder = new Float64Array(q.length / D);
  const dq = new Float64Array(q.length);
  const dk = new Float64Array(k.length);
  const dv = new Float64Array(v.length);
  forEachQuery(layout, ({ row, head, position, q: at, key }) => {
    const count = attendCurrent ? position + 1 : position;
    const z = Float64Array.from({ length: count }, (_, i) => scale * dot(q, at, k, key(i), D));
    const weights = new Float64Array(count);
    let broken = 0;
    for (let i = count - 1; i >= 0; i--) {
      broken += softplus(z[i]!);
      weights[i] = Math.exp(z[i]! - broken);
      addTo(output, at, weights[i]!, v, key(i), D);
    }
    const rest = Math.exp(-broken);
    remainder[row * heads + head] = rest;
    let prefix = rest * dRemainder[row * heads + head]!;
    for (let i = 0; i < count; i++) {
      const dLogWeight = weights[i]! * dot(dOutput, at, v, key(i), D);
      prefix += dLogWeight;
      const dz = dLogWeight - prefix / (1 + Math.exp(-z[i]!));
      addTo(dq, at, scale * dz, k, key(i), D);
      addTo(dk, key(i), scale * dz, q, at, D);
      addTo(dv, key(i), weights[i]!, dOutput, at, D);
    }
  });
  return { output, remainder, dq, dk, dv };
}

function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}
