/** The other ops of a transformer by their definitions in float64, each with its gradients. Matrices are row by row. */
import { addTo, dot, type Values } from './packed.js';

export function rmsNorm64(x: Values, weight: Values, epsilon: number, dy: Values) {
  const C = weight.length;
  const [y, dx, dWeight] = [new Float64Array(x.length), new Float64Array(x.length), new Float64Array(C)];
  for (let at = 0; at < x.length; at += C) {
    const inverse = 1 / Math.sqrt(dot(x, at, x, at, C) / C + epsilon);
    let along = 0;
    for (let c = 0; c < C; c++) along += dy[at + c]! * weight[c]! * x[at + c]!;
    for (let c = 0; c < C; c++) {
      y[at + c] = x[at + c]! * inverse * weight[c]!;
      dx[at + c] = inverse * (dy[at + c]! * weight[c]! - (x[at + c]! * along * inverse * inverse) / C);
      dWeight[c]! += dy[at + c]! * x[at + c]! * inverse;
    }
  }
  return { y, dx, dWeight };
}

/** sum = x + multiplier · branch and its norm, y. */
export function residualRmsNorm64(
  x: Values,
  branch: Values,
  weight: Values,
  { epsilon, multiplier }: { epsilon: number; multiplier: number },
  { dSum, dy }: { dSum: Values; dy: Values },
) {
  const sum = Float64Array.from(x, (value, i) => value + multiplier * branch[i]!);
  const { y, dx: dNormalised, dWeight } = rmsNorm64(sum, weight, epsilon, dy);
  const dx = dNormalised.map((value, i) => value + dSum[i]!);
  return { sum, y, dx, dBranch: dx.map((value) => multiplier * value), dWeight };
}

export function swiGlu64(gate: Values, up: Values, dy: Values) {
  const sigma = Float64Array.from(gate, (g) => 1 / (1 + Math.exp(-g)));
  const each = (f: (i: number) => number) => Float64Array.from(gate, (_, i) => f(i));
  return {
    y: each((i) => gate[i]! * sigma[i]! * up[i]!),
    dGate: each((i) => dy[i]! * up[i]! * (sigma[i]! + gate[i]! * sigma[i]! * (1 - sigma[i]!))),
    dUp: each((i) => dy[i]! * gate[i]! * sigma[i]!),
  };
}

/** x [N, H, D], weight and bias [H, D]: each row of each head by its own mean and variance. */
export function headNorm64(x: Values, weight: Values, bias: Values, headDim: number, epsilon: number, dy: Values) {
  const [y, dx] = [new Float64Array(x.length), new Float64Array(x.length)];
  const [dWeight, dBias] = [new Float64Array(weight.length), new Float64Array(bias.length)];
  for (let at = 0; at < x.length; at += headDim) {
    const w = at % weight.length;
    const row = Float64Array.from(x.subarray(at, at + headDim));
    const mean = row.reduce((a, b) => a + b, 0) / headDim;
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / headDim;
    const normal = row.map((value) => (value - mean) / Math.sqrt(variance + epsilon));
    const dNormal = normal.map((_, d) => dy[at + d]! * weight[w + d]!);
    const average = dNormal.reduce((a, b) => a + b, 0) / headDim;
    const along = dot(dNormal, 0, normal, 0, headDim) / headDim;
    for (let d = 0; d < headDim; d++) {
      y[at + d] = normal[d]! * weight[w + d]! + bias[w + d]!;
      dx[at + d] = (dNormal[d]! - average - normal[d]! * along) / Math.sqrt(variance + epsilon);
      dWeight[w + d]! += dy[at + d]! * normal[d]!;
      dBias[w + d]! += dy[at + d]!;
    }
  }
  return { y, dx, dWeight, dBias };
}

/** output [N, H, D] + remainder [N, H] · bias [H, D] */
export function remainderBias64(output: Values, remainder: Values, bias: Values, headDim: number, dy: Values) {
  const y = Float64Array.from(output);
  const [dRemainder, dBias] = [new Float64Array(remainder.length), new Float64Array(bias.length)];
  for (let r = 0; r < remainder.length; r++) {
    const [at, w] = [r * headDim, (r * headDim) % bias.length];
    addTo(y, at, remainder[r]!, bias, w, headDim);
    addTo(dBias, w, remainder[r]!, dy, at, headDim);
    dRemainder[r] = dot(dy, at, bias, w, headDim);
  }
  return { y, dOutput: Float64Array.from(dy), dRemainder, dBias };
}

export function embedding64(tokens: Int32Array, weight: Values, width: number, dy: Values) {
  const [y, dWeight] = [new Float64Array(tokens.length * width), new Float64Array(weight.length)];
  tokens.forEach((token, n) => {
    addTo(y, n * width, 1, weight, token * width, width);
    addTo(dWeight, token * width, 1, dy, n * width, width);
  });
  return { y, dWeight };
}

/** x [N, C] · weight [out, C], transposed. */
export function linear64(x: Values, weight: Values, C: number, dy: Values) {
  const [N, out] = [x.length / C, weight.length / C];
  const y = new Float64Array(N * out);
  const [dx, dWeight] = [new Float64Array(x.length), new Float64Array(weight.length)];
  for (let n = 0; n < N; n++) {
    for (let o = 0; o < out; o++) {
      y[n * out + o] = dot(x, n * C, weight, o * C, C);
      addTo(dx, n * C, dy[n * out + o]!, weight, o * C, C);
      addTo(dWeight, o * C, dy[n * out + o]!, x, n * C, C);
    }
  }
  return { y, dx, dWeight };
}

export function linearCrossEntropy64(
  hidden: Values,
  weight: Values,
  targets: Int32Array,
  { width: C, logitScale, ignoreIndex }: { width: number; logitScale: number; ignoreIndex: number },
  dLoss: Values,
) {
  const vocabSize = weight.length / C;
  const loss = new Float64Array(targets.length);
  const [dHidden, dWeight] = [new Float64Array(hidden.length), new Float64Array(weight.length)];
  targets.forEach((target, n) => {
    if (target === ignoreIndex) return;
    const logits = Float64Array.from(
      { length: vocabSize },
      (_, t) => logitScale * dot(hidden, n * C, weight, t * C, C),
    );
    const highest = logits.reduce((a, b) => Math.max(a, b));
    const logSumExp = highest + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - highest), 0));
    loss[n] = logSumExp - logits[target]!;
    for (let t = 0; t < vocabSize; t++) {
      const dLogit = dLoss[n]! * logitScale * (Math.exp(logits[t]! - logSumExp) - (t === target ? 1 : 0));
      addTo(dHidden, n * C, dLogit, weight, t * C, C);
      addTo(dWeight, t * C, dLogit, hidden, n * C, C);
    }
  });
  return { loss, dHidden, dWeight };
}

export function globalNorm64(tensors: readonly Values[]): number {
  return Math.sqrt(tensors.reduce((total, x) => total + dot(x, 0, x, 0, x.length), 0));
}

export interface AdamW64 {
  parameter: Float64Array;
  m: Float64Array;
  v: Float64Array;
}

/** One update (https://arxiv.org/abs/1711.05101, algorithm 2, with the learning rate as both of its factors), in place. */
export function adamW64(
  { parameter, m, v }: AdamW64,
  gradient: Values,
  o: {
    weightDecay: number;
    learningRate: number;
    beta1: number;
    beta2: number;
    epsilon: number;
    step: number;
    gradientScale: number;
  },
): void {
  for (let i = 0; i < parameter.length; i++) {
    const g = gradient[i]! * o.gradientScale;
    m[i] = o.beta1 * m[i]! + (1 - o.beta1) * g;
    v[i] = o.beta2 * v[i]! + (1 - o.beta2) * g * g;
    const update = m[i]! / (1 - o.beta1 ** o.step) / (Math.sqrt(v[i]! / (1 - o.beta2 ** o.step)) + o.epsilon);
    parameter[i]! -= o.learningRate * (update + o.weightDecay * parameter[i]!);
  }
}
