// Attention over packed documents in float64, plain loops: weights row by row, and the gradients of everything.

/** @returns output, extra (remainder or log-sum-exp), dq, dk, dv for packed q, dO [N,H,D] and k, v [M,Hkv,D]. */
export function attention(kind, { q, k, v, dO, dRem }, o) {
  const { heads, kvHeads, dim, bounds, boundsK, scale } = o;
  const zeros = (x) => new Float64Array(x.length);
  const out = { output: zeros(q), extra: new Float64Array(q.length / dim), dq: zeros(q), dk: zeros(k), dv: zeros(k) };
  const dot = (a, i, b, j) => {
    let sum = 0;
    for (let d = 0; d < dim; d++) sum += a[i + d] * b[j + d];
    return sum;
  };
  const row = (document, token, head) => {
    const first = boundsK[document];
    const position = boundsK[document + 1] - first - (bounds[document + 1] - token);
    const limit = kind === 'stick' ? position + o.current : position + 1;
    const from = kind !== 'stick' && o.window ? Math.max(0, limit - o.window) : 0;
    const at = (token * heads + head) * dim;
    const key = (i) => ((first + i) * kvHeads + Math.floor((head * kvHeads) / heads)) * dim;
    const [z, a] = [new Float64Array(limit), new Float64Array(limit)];
    for (let i = from; i < limit; i++)
      z[i] = dot(q, at, k, key(i)) * scale + (o.slopes ? o.slopes[head] * (i - position) : 0);
    const extra = kind === 'stick' ? breakStick(z, a) : softmax(z, a, from);
    out.extra[token * heads + head] = extra;
    const da = a.map((w, i) => w * dot(dO, at, v, key(i)));
    let before = kind === 'stick' ? extra * dRem[token * heads + head] : da.reduce((x, y) => x + y, 0);
    for (let i = from; i < limit; i++) {
      if (kind === 'stick') before += da[i];
      const dz = scale * (da[i] - (kind === 'stick' ? before / (1 + Math.exp(-z[i])) : before * a[i]));
      for (let d = 0; d < dim; d++) {
        out.output[at + d] += a[i] * v[key(i) + d];
        out.dq[at + d] += dz * k[key(i) + d];
        out.dk[key(i) + d] += dz * q[at + d];
        out.dv[key(i) + d] += a[i] * dO[at + d];
      }
    }
  };
  for (let s = 0; s + 1 < bounds.length; s++)
    for (let token = bounds[s]; token < bounds[s + 1]; token++) for (let h = 0; h < heads; h++) row(s, token, h);
  return out;
}

function breakStick(z, a) {
  let spent = 0;
  for (let i = z.length - 1; i >= 0; i--) {
    spent += Math.max(z[i], 0) + Math.log1p(Math.exp(-Math.abs(z[i])));
    a[i] = Math.exp(z[i] - spent);
  }
  return Math.exp(-spent);
}

function softmax(z, a, from) {
  const seen = z.subarray(from);
  const most = seen.reduce((x, y) => Math.max(x, y));
  const logSumExp = most + Math.log(seen.reduce((x, y) => x + Math.exp(y - most), 0));
  for (let i = from; i < z.length; i++) a[i] = Math.exp(z[i] - logSumExp);
  return logSumExp;
}

const short = Array.from({ length: 61 }, (_, i) => Math.floor(i * 3.4));
/** kind, heads, kvHeads, dim, bounds of queries, bounds of keys, the rest. `big` raises the logits' variance. */
export const CASES = [
  ['stick', 2, 2, 64, [0, 130], [0, 130], { current: 0 }],
  ['stick', 4, 2, 32, [0, 1, 1, 40, 97], [0, 1, 1, 40, 97], { current: 1 }],
  ['stick', 3, 1, 128, [0, 5, 9], [0, 35, 70], { current: 0 }],
  ['stick', 1, 1, 40, short, short, { current: 0, big: 50 }],
  ['softmax', 2, 2, 64, [0, 130], [0, 130], {}],
  ['softmax', 4, 2, 32, [0, 1, 1, 40, 97], [0, 1, 1, 40, 97], { window: 7 }],
  ['softmax', 4, 1, 64, [0, 50, 90], [0, 60, 140], { slopes: Float32Array.of(0.5, 0.25, 0.125, 0.0625) }],
];
