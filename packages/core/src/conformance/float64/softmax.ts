/** Causal softmax attention by its definition in float64, with every position scheme, a window, and its gradients. */
import { type Fire64, FireGradients, fireBias64 } from './fire.js';
import { addTo, dot, forEachQuery, type PackedLayout, type Values } from './packed.js';
import { alibiSlopes64, frequencies64, rotate64, rowPositions, type Scaling64 } from './positions.js';

export type Position64 =
  | { kind: 'none' }
  | { kind: 'rope'; theta: number; scaling?: Scaling64 }
  | { kind: 'alibi' }
  | { kind: 'fire'; fire: Fire64 }
  /** [M, K], the logarithm of each token's forget gate. */
  | { kind: 'forget'; logForget: Values };

export interface SoftmaxInputs {
  q: Values;
  k: Values;
  v: Values;
  dOutput: Values;
  /** [H], the logit of one more key for each head, whose value is zero. */
  sink?: Values;
}

/**
 * @param window keys that a query sees, itself included; 0 sees all before it
 * @returns `uncancelled` is the norm that dq would have if its terms did not cancel; with a window of one key, all cancel.
 *   `uncancelledForget` is dLogForget's, as a sum over the keys up to each token, in which a row's own gradients sum to 0;
 *   `uncancelledSink` is dSink's, as a sum over rows and columns
 */
export function softmax64(inputs: SoftmaxInputs, layout: PackedLayout, position: Position64, window = 0) {
  if (position.kind !== 'rope') return attend(inputs, layout, position, window);
  const { heads, kvHeads, headDim } = layout;
  const lengths = layout.cuSeqlensK.slice(1).map((end, s) => end - layout.cuSeqlensK[s]!);
  const tables = lengths.map((length) => frequencies64(headDim, position.theta, position.scaling, length));
  const angles = (of: 'queries' | 'keys') => {
    const rows = rowPositions(layout, of);
    return (row: number) => ({ position: rows[row]!.position, frequencies: tables[rows[row]!.document]! });
  };
  const q = rotate64(inputs.q, heads, headDim, angles('queries'));
  const k = rotate64(inputs.k, kvHeads, headDim, angles('keys'));
  const result = attend({ ...inputs, q, k }, layout, { kind: 'none' }, window);
  return {
    ...result,
    dq: rotate64(result.dq, heads, headDim, angles('queries'), -1),
    dk: rotate64(result.dk, kvHeads, headDim, angles('keys'), -1),
  };
}

function attend(inputs: SoftmaxInputs, layout: PackedLayout, position: Position64, window: number) {
  const { q, k, v, dOutput, sink } = inputs;
  const { headDim: D, scale, heads } = layout;
  const output = new Float64Array(q.length);
  const dq = new Float64Array(q.length);
  const dk = new Float64Array(k.length);
  const dv = new Float64Array(v.length);
  const slopes = alibiSlopes64(heads);
  const dSink = new Float64Array(sink ? heads : 0);
  let uncancelled = 0;
  let uncancelledSink = 0;
  const fire = position.kind === 'fire' ? new FireGradients(position.fire) : undefined;
  const logForget = position.kind === 'forget' ? position.logForget : undefined;
  const dLogForget = new Float64Array(logForget?.length ?? 0);
  let uncancelledForget = 0;
  const bias = (head: number, distance: number, at: number) => {
    if (position.kind === 'alibi') return -slopes[head]! * distance;
    return position.kind === 'fire' ? fireBias64(position.fire, head, distance, at) : 0;
  };
  forEachQuery(layout, ({ head, position: at, q: row, key }) => {
    const first = window === 0 ? 0 : Math.max(0, at - window + 1);
    const seen = Array.from({ length: at - first + 1 }, (_, i) => first + i);
    // What the tokens after a key, up to the query, leave of it: summed from the query back.
    const forgotten = seen.map(() => 0);
    if (logForget)
      for (let n = seen.length - 2; n >= 0; n--) forgotten[n] = forgotten[n + 1]! + logForget[key(seen[n + 1]!) / D]!;
    const logits = seen.map((i, n) => scale * dot(q, row, k, key(i), D) + bias(head, at - i, at) + forgotten[n]!);
    const resting = sink ? sink[head]! : -Infinity;
    const highest = logits.reduce((a, b) => Math.max(a, b), resting);
    const exponentials = logits.map((logit) => Math.exp(logit - highest));
    const total = exponentials.reduce((a, b) => a + b, Math.exp(resting - highest));
    const weights = exponentials.map((exponential) => exponential / total);
    const dWeights = seen.map((i) => dot(dOutput, row, v, key(i), D));
    const mean = weights.reduce((sum, weight, n) => sum + weight * dWeights[n]!, 0);
    const rest = Math.exp(resting - highest) / total;
    if (sink) dSink[head]! -= rest * mean;
    let before = 0; // the logits' gradients of all keys before this one, which its gate has a part in
    seen.forEach((i, n) => {
      const dLogit = weights[n]! * (dWeights[n]! - mean);
      addTo(output, row, weights[n]!, v, key(i), D);
      addTo(dq, row, scale * dLogit, k, key(i), D);
      addTo(dk, key(i), scale * dLogit, q, row, D);
      addTo(dv, key(i), weights[n]!, dOutput, row, D);
      uncancelled += (scale * weights[n]! * dWeights[n]!) ** 2 * dot(k, key(i), k, key(i), D);
      fire?.addPair(head, at - i, at, dLogit);
      if (logForget) dLogForget[key(i) / D]! += before;
      before += dLogit;
      uncancelledForget += (i + 1) * dLogit ** 2;
    });
    for (let d = row; d < row + D; d++) uncancelledSink += (rest * output[d]! * dOutput[d]!) ** 2;
  });
  return {
    ...{ output, dq, dk, dv, dSink, dLogForget, fire, uncancelled: Math.sqrt(uncancelled) },
    uncancelledForget: Math.sqrt(uncancelledForget),
    uncancelledSink: Math.sqrt(uncancelledSink),
  };
}
