// Every GPU kernel against float64 written out in plain JavaScript, on fresh random inputs and awkward sizes, twice (the
// bits must agree). Runs where vitest does not, e.g. from the bundle on a cluster: `bin/cuda-check [--seed n]`.
import * as tf from '@tensorflow/tfjs-core';
import { openCuda } from '../../packages/core/dist/backends/cuda/index.js';
import { attention, CASES } from './cuda-check-attention.mjs';

const seedAt = process.argv.indexOf('--seed');
let state = seedAt > 0 ? Number(process.argv[seedAt + 1]) : Date.now() % 2 ** 31;
console.log(`seed ${state}`);
function uniform() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return (state + 0.5) / 2 ** 32;
}
const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
// Values that bfloat16 holds exactly, so that the reference sees the very same inputs.
const bf = (x) => {
  const f = new Float32Array([x]);
  const u = new Uint32Array(f.buffer);
  u[0] = (u[0] + 0x8000) & 0xffff0000;
  return f[0];
};
const random = (n, scale = 1) => Float32Array.from({ length: n }, () => bf(normal() * scale));

const { backend, description } = openCuda();
console.log(description, '| cuBLASLt', backend.cublas.path);
tf.setBackend('cuda');
await tf.ready();

let failed = 0;
function judge(what, got, want, tolerance = 1e-2) {
  let [error, size] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    error += (got[i] - want[i]) ** 2;
    size += want[i] ** 2;
  }
  const relative = Math.sqrt(error / Math.max(size, 1e-30));
  const good = got.length === want.length && relative <= tolerance;
  if (!good) failed++;
  console.log(`${good ? 'ok  ' : 'FAIL'} ${what.padEnd(46)} ${relative.toExponential(2)}`);
}
const t = (values, shape) => tf.tensor(values, shape, values instanceof Int32Array ? 'int32' : 'float32');
function run(name, inputs, attrs = {}) {
  const once = () => {
    const result = tf.engine().runKernel(name, inputs, attrs);
    const list = Array.isArray(result) ? result : [result];
    return list.map((x) => x.dataSync());
  };
  const [first, second] = [once(), once()];
  for (const [i, values] of first.entries())
    if (!Buffer.from(values.buffer).equals(Buffer.from(second[i].buffer))) {
      failed++;
      console.log(`FAIL ${name} output ${i}: two runs differ`);
    }
  return first;
}
function attempt(what, body) {
  try {
    body();
  } catch (error) {
    failed++;
    console.log(`FAIL ${what}: ${error.message}`);
  }
}

function product(a, b, m, n, k, ta, tb, scale = 1) {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) {
      let s = 0;
      for (let l = 0; l < k; l++) s += (ta ? a[l * m + i] : a[i * k + l]) * (tb ? b[j * k + l] : b[l * n + j]);
      c[i * n + j] = s * scale;
    }
  return c;
}
for (const [m, n, k] of [
  [64, 48, 80],
  [37, 19, 53],
  [1, 8, 7],
])
  for (const ta of [false, true])
    for (const tb of [false, true])
      attempt('BatchMatMul', () => {
        const [a, b] = [random(m * k), random(n * k)];
        const inputs = { a: t(a, ta ? [k, m] : [m, k]), b: t(b, tb ? [n, k] : [k, n]) };
        const [c] = run('BatchMatMul', inputs, { transposeA: ta, transposeB: tb });
        judge(`BatchMatMul ${m}x${n}x${k} ${ta ? 'T' : 'N'}${tb ? 'T' : 'N'}`, c, product(a, b, m, n, k, ta, tb));
      });

for (const [rows, columns] of [
  [5, 64],
  [300, 1536],
  [7, 37],
  [2, 2056],
])
  attempt('RMSNorm', () => {
    const [x, w, dy] = [random(rows * columns), random(columns), random(rows * columns)];
    const epsilon = 1e-5;
    const [y, r, dx] = [new Float64Array(x.length), new Float64Array(rows), new Float64Array(x.length)];
    const dw = new Float64Array(columns);
    for (let i = 0; i < rows; i++) {
      let [s, dot] = [0, 0];
      for (let c = 0; c < columns; c++) s += x[i * columns + c] ** 2;
      r[i] = 1 / Math.sqrt(s / columns + epsilon);
      for (let c = 0; c < columns; c++) dot += w[c] * dy[i * columns + c] * x[i * columns + c];
      for (let c = 0; c < columns; c++) {
        const at = i * columns + c;
        y[at] = x[at] * r[i] * w[c];
        dw[c] += dy[at] * x[at] * r[i];
        dx[at] = r[i] * (w[c] * dy[at] - (x[at] * r[i] ** 2 * dot) / columns);
      }
    }
    const weight = t(w, [columns]);
    const out = run('RMSNorm', { x: t(x, [rows, columns]), weight }, { epsilon });
    judge(`RMSNorm [${rows},${columns}] y`, out[0], y);
    judge(`RMSNorm [${rows},${columns}] inverseRms`, out[1], r, 1e-5);
    const inputs = {
      x: t(x, [rows, columns]),
      weight,
      inverseRms: t(Float32Array.from(r), [rows]),
      dy: t(dy, [rows, columns]),
    };
    const grad = run('RMSNormGrad', inputs, { epsilon });
    judge(`RMSNormGrad [${rows},${columns}] dx`, grad[0], dx);
    judge(`RMSNormGrad [${rows},${columns}] dWeight`, grad[1], dw, 1e-4);
  });

for (const n of [8 * 300, 37])
  attempt('SwiGLU', () => {
    const [g, u, d] = [random(n, 3), random(n), random(n)];
    const s = g.map((x) => 1 / (1 + Math.exp(-x)));
    const [gate, up, dy] = [g, u, d].map((v) => t(v, [1, n]));
    judge(
      `SwiGLU ${n}`,
      run('SwiGLU', { gate, up })[0],
      g.map((x, i) => x * s[i] * u[i]),
    );
    const grad = run('SwiGLUGrad', { gate, up, dy });
    judge(
      `SwiGLUGrad ${n} dGate`,
      grad[0],
      g.map((x, i) => d[i] * u[i] * (s[i] + x * s[i] * (1 - s[i]))),
    );
    judge(
      `SwiGLUGrad ${n} dUp`,
      grad[1],
      g.map((x, i) => d[i] * x * s[i]),
    );
  });

for (const [tokens, heads, dim] of [
  [9, 3, 64],
  [70, 2, 32],
  [5, 1, 128],
  [4, 2, 6],
])
  attempt('HeadNorm, RotaryEmbedding, RemainderBias', () => {
    const n = tokens * heads * dim;
    const shape = [tokens, heads, dim];
    const [x, dy, w, b] = [random(n), random(n), random(heads * dim), random(heads * dim)];
    const [mean, inv] = [new Float64Array(tokens * heads), new Float64Array(tokens * heads)];
    const [y, dx] = [new Float64Array(n), new Float64Array(n)];
    const [dw, db] = [new Float64Array(heads * dim), new Float64Array(heads * dim)];
    for (let row = 0; row < tokens * heads; row++) {
      const [at, h] = [row * dim, (row % heads) * dim];
      for (let d = 0; d < dim; d++) mean[row] += x[at + d] / dim;
      let q = 0;
      for (let d = 0; d < dim; d++) q += (x[at + d] - mean[row]) ** 2 / dim;
      inv[row] = 1 / Math.sqrt(q + 1e-5);
      let [ga, gb] = [0, 0];
      for (let d = 0; d < dim; d++) {
        const normed = (x[at + d] - mean[row]) * inv[row];
        y[at + d] = normed * w[h + d] + b[h + d];
        dw[h + d] += dy[at + d] * normed;
        db[h + d] += dy[at + d];
        ga += (dy[at + d] * w[h + d]) / dim;
        gb += (dy[at + d] * w[h + d] * normed) / dim;
      }
      for (let d = 0; d < dim; d++)
        dx[at + d] = inv[row] * (dy[at + d] * w[h + d] - ga - (x[at + d] - mean[row]) * inv[row] * gb);
    }
    const [weight, bias] = [t(w, [heads, dim]), t(b, [heads, dim])];
    judge(`HeadNorm [${shape}] y`, run('HeadNorm', { x: t(x, shape), weight, bias }, { epsilon: 1e-5 })[0], y);
    const [m32, i32] = [mean, inv].map((v) => t(Float32Array.from(v), [tokens, heads]));
    const grad = run(
      'HeadNormGrad',
      { x: t(x, shape), weight, mean: m32, inverseStd: i32, dy: t(dy, shape) },
      { epsilon: 1e-5 },
    );
    for (const [i, want] of [dx, dw, db].entries())
      judge(`HeadNormGrad [${shape}] ${['dx', 'dWeight', 'dBias'][i]}`, grad[i], want);

    const cut = Math.floor(tokens / 3);
    const cuSeqlens = Int32Array.of(0, cut, cut, tokens);
    const firstPositions = Int32Array.of(100_000, 3, 0);
    const inverseFrequencies = Float64Array.from({ length: dim / 2 }, (_, i) => 10000 ** ((-2 * i) / dim));
    const turned = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      const [token, d] = [Math.floor(i / (heads * dim)), i % dim];
      const position = token < cut ? token + 100_000 : token - cut;
      const angle = position * inverseFrequencies[d % (dim / 2)];
      const other = d < dim / 2 ? -x[i + dim / 2] : x[i - dim / 2];
      turned[i] = x[i] * Math.cos(angle) + other * Math.sin(angle);
    }
    const attrs = { cuSeqlens, firstPositions, inverseFrequencies, inverse: false };
    const rotated = run('RotaryEmbedding', { x: t(x, shape) }, attrs)[0];
    judge(`RotaryEmbedding [${shape}]`, rotated, turned);
    judge(
      `RotaryEmbedding [${shape}] and back`,
      run('RotaryEmbedding', { x: t(rotated, shape) }, { ...attrs, inverse: true })[0],
      x,
    );

    const rem = Float32Array.from({ length: tokens * heads }, uniform);
    const remainder = t(rem, [tokens, heads]);
    const added = y.map((_, i) => x[i] + rem[Math.floor(i / dim)] * b[i % (heads * dim)]);
    judge(`RemainderBias [${shape}]`, run('RemainderBias', { output: t(x, shape), remainder, bias })[0], added);
    const dr = new Float64Array(tokens * heads);
    const dBias = new Float64Array(heads * dim);
    for (let i = 0; i < n; i++) {
      dr[Math.floor(i / dim)] += dy[i] * b[i % (heads * dim)];
      dBias[i % (heads * dim)] += dy[i] * rem[Math.floor(i / dim)];
    }
    const rg = run('RemainderBiasGrad', { remainder, bias, dy: t(dy, shape) });
    judge(`RemainderBiasGrad [${shape}] dRemainder`, rg[0], dr);
    judge(`RemainderBiasGrad [${shape}] dBias`, rg[1], dBias);
  });

for (const [tokens, vocab, width, logitScale] of [
  [50, 301, 40, 1],
  [600, 512, 64, 0.25],
  [3, 7, 5, 1],
])
  attempt('Embedding, LinearCrossEntropy', () => {
    const [w, dy] = [random(vocab * width, 0.5), random(tokens * width)];
    const ids = Int32Array.from({ length: tokens }, () => Math.floor(uniform() ** 3 * vocab));
    const weight = t(w, [vocab, width]);
    const picked = dy.map((_, i) => w[ids[Math.floor(i / width)] * width + (i % width)]);
    judge(
      `Embedding ${tokens} of ${vocab}x${width}`,
      run('Embedding', { tokens: t(ids, [tokens]), weight })[0],
      picked,
    );
    const dw = new Float64Array(vocab * width);
    dy.forEach((g, i) => {
      dw[ids[Math.floor(i / width)] * width + (i % width)] += g;
    });
    judge(
      'EmbeddingGrad',
      run('EmbeddingGrad', { tokens: t(ids, [tokens]), dy: t(dy, [tokens, width]) }, { vocabSize: vocab })[0],
      dw,
      1e-5,
    );

    const h = random(tokens * width);
    const targets = ids.map((id, i) => (i % 5 === 2 ? -1 : vocab - 1 - id));
    const z = product(h, w, tokens, vocab, width, false, true, logitScale);
    const [loss, lse] = [new Float64Array(tokens), new Float64Array(tokens)];
    const g = Float32Array.from({ length: tokens }, uniform);
    for (let i = 0; i < tokens; i++) {
      const row = z.subarray(i * vocab, (i + 1) * vocab);
      const most = row.reduce((a, b) => Math.max(a, b));
      lse[i] = most + Math.log(row.reduce((a, b) => a + Math.exp(b - most), 0));
      const scored = targets[i] >= 0;
      loss[i] = scored ? lse[i] - row[targets[i]] : 0;
      for (let c = 0; c < vocab; c++)
        row[c] = scored ? g[i] * logitScale * (Math.exp(row[c] - lse[i]) - (c === targets[i])) : 0;
    }
    const [hidden, goal] = [t(h, [tokens, width]), t(targets, [tokens])];
    const attrs = { logitScale, ignoreIndex: -1 };
    const out = run('LinearCrossEntropy', { hidden, weight, targets: goal }, attrs);
    judge('LinearCrossEntropy loss', out[0], loss);
    judge('LinearCrossEntropy logSumExp', out[1], lse, 1e-3);
    const logSumExp = t(Float32Array.from(lse), [tokens]);
    const grad = run(
      'LinearCrossEntropyGrad',
      { hidden, weight, targets: goal, logSumExp, dLoss: t(g, [tokens]) },
      attrs,
    );
    judge('LinearCrossEntropyGrad dHidden', grad[0], product(z, w, tokens, width, vocab, false, false));
    judge('LinearCrossEntropyGrad dWeight', grad[1], product(z, h, vocab, width, tokens, true, false));
  });

attempt('AdamW, GlobalNorm', () => {
  const sizes = [1, 37, 20_000, 65_537, 100_000];
  const make = (scale, square) => sizes.map((n) => random(n, scale).map((x) => (square ? x * x : x)));
  const [p, g, m, v] = [make(1), make(0.1), make(0.1), make(0.1, true)];
  const all = g.flatMap((x) => Array.from(x));
  const names = Object.fromEntries(g.map((x, i) => [`x${i}`, t(x, [x.length])]));
  judge('GlobalNorm', run('GlobalNorm', names)[0], [Math.sqrt(all.reduce((s, x) => s + x * x, 0))], 1e-5);
  const tensors = {};
  for (const [name, list] of Object.entries({ param: p, grad: g, m, v }))
    for (const [i, x] of list.entries()) tensors[`${name}${i}`] = t(x, [x.length]);
  backend.bf16(tensors.param3);
  const o = { learningRate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, step: 3, gradientScale: 0.5 };
  tf.engine().runKernel('AdamW', tensors, { ...o, weightDecays: sizes.map((_, i) => i * 0.1) });
  for (const [i, n] of sizes.entries()) {
    const want = p[i].map((w, j) => {
      const grad = g[i][j] * o.gradientScale;
      const first = (o.beta1 * m[i][j] + (1 - o.beta1) * grad) / (1 - o.beta1 ** o.step);
      const second = (o.beta2 * v[i][j] + (1 - o.beta2) * grad * grad) / (1 - o.beta2 ** o.step);
      return w - o.learningRate * (first / (Math.sqrt(second) + o.epsilon) + i * 0.1 * w);
    });
    judge(`AdamW ${n}`, tensors[`param${i}`].dataSync(), want, 1e-6);
  }
});

attempt('tfjs operations', () => {
  const [a, b, row] = [random(60), random(60), random(5)];
  const [ta, tb, tr] = [t(a, [3, 4, 5]), t(b, [3, 4, 5]), t(row, [5])];
  judge(
    'add',
    tf.add(ta, tb).dataSync(),
    a.map((x, i) => x + b[i]),
    1e-6,
  );
  judge(
    'mul row',
    tf.mul(ta, tr).dataSync(),
    a.map((x, i) => x * row[i % 5]),
    1e-6,
  );
  judge(
    'sub column',
    tf.sub(ta, tf.tensor([1, 2, 3], [3, 1, 1])).dataSync(),
    a.map((x, i) => x - 1 - Math.floor(i / 20)),
    1e-6,
  );
  judge('exp', tf.exp(ta).dataSync(), a.map(Math.exp), 1e-6);
  judge('sum', tf.sum(ta).dataSync(), [a.reduce((s, x) => s + x, 0)], 1e-5);
  judge(
    'sum last',
    tf.sum(ta, 2).dataSync(),
    Array.from({ length: 12 }, (_, i) => a.slice(i * 5, i * 5 + 5).reduce((s, x) => s + x)),
    1e-5,
  );
  judge(
    'sum first',
    tf.sum(ta, 0).dataSync(),
    Array.from({ length: 20 }, (_, i) => a[i] + a[i + 20] + a[i + 40]),
    1e-5,
  );
  judge('max', tf.max(ta).dataSync(), [Math.max(...a)], 0);
  judge(
    'transpose',
    tf.transpose(ta, [2, 0, 1]).dataSync(),
    Array.from({ length: 60 }, (_, i) => a[Math.floor((i % 12) / 4) * 20 + (i % 4) * 5 + Math.floor(i / 12)]),
    0,
  );
  judge(
    'slice',
    tf.slice(ta, [1, 1, 2], [2, 2, 2]).dataSync(),
    [1, 2].flatMap((i) => [1, 2].flatMap((j) => [2, 3].map((k) => a[i * 20 + j * 5 + k]))),
    0,
  );
  judge('concat', tf.concat([ta, tb], 0).dataSync(), [...a, ...b], 0);
  judge('tile', tf.tile(tf.reshape(tr, [1, 5]), [3, 1]).dataSync(), [...row, ...row, ...row], 0);
  judge(
    'cumsum (on the CPU)',
    tf.cumsum(tr).dataSync(),
    row.map((_, i) => row.slice(0, i + 1).reduce((s, x) => s + x)),
    1e-6,
  );
  const long = random(300_000);
  judge('mean of many', tf.mean(t(long, [300_000])).dataSync(), [long.reduce((s, x) => s + x, 0) / 300_000], 1e-3);
  judge('cast', tf.cast(t(Int32Array.of(1, -2, 3), [3]), 'float32').dataSync(), [1, -2, 3], 0);
});

for (const [kind, heads, kvHeads, dim, bounds, boundsK, more] of CASES)
  attempt('attention', () => {
    const [tokens, keys] = [bounds.at(-1), boundsK.at(-1)];
    const size = Math.sqrt(more.big ?? 1);
    const values = {
      q: random(tokens * heads * dim, size),
      k: random(keys * kvHeads * dim, size),
      v: random(keys * kvHeads * dim),
      dO: random(tokens * heads * dim),
      dRem: random(tokens * heads),
    };
    const o = { heads, kvHeads, dim, bounds, boundsK, scale: 1 / Math.sqrt(dim), ...more };
    const want = attention(kind, values, o);
    const attrs = {
      cuSeqlens: Int32Array.from(bounds),
      cuSeqlensK: Int32Array.from(boundsK),
      scale: o.scale,
      attendCurrent: o.current === 1,
      window: o.window ?? 0,
      bias: o.slopes ? 'alibi' : 'none',
      alibiSlopes: o.slopes,
    };
    const queries = (x) => t(x, [tokens, heads, dim]);
    const [k, v] = [values.k, values.v].map((x) => t(x, [keys, kvHeads, dim]));
    const inputs = { q: queries(values.q), k, v };
    const stick = kind === 'stick';
    const name = stick ? 'StickBreakingAttention' : 'SoftmaxAttention';
    const label = `${kind} h${heads}/${kvHeads} d${dim} ${Object.keys(more)}`;
    const forward = run(name, inputs, attrs);
    judge(`${label} output`, forward[0], want.output);
    judge(`${label} ${stick ? 'remainder' : 'logSumExp'}`, forward[1], want.extra, 1e-4);
    const extra = t(forward[1], [tokens, heads]);
    const saved = t(new Float32Array(0), [0]);
    const rest = stick
      ? { remainder: extra, saved, dRemainder: t(values.dRem, [tokens, heads]) }
      : { logSumExp: extra, output: queries(forward[0]) };
    const grad = run(`${name}Grad`, { ...inputs, ...rest, dOutput: queries(values.dO) }, attrs);
    for (const [i, what] of ['dq', 'dk', 'dv'].entries()) judge(`${label} ${what}`, grad[i], want[what]);
  });

for (const [m, n, k] of [
  [8192, 8192, 8192],
  [16384, 1536, 1536],
  [16384, 4096, 1536],
  [16384, 1536, 4096],
])
  attempt('speed', () => {
    const x = Float32Array.from({ length: 2 ** 20 }, normal);
    const big = (rows, columns) => tf.tile(t(x.subarray(0, columns), [1, columns]), [rows, 1]);
    const [a, b] = [
      t(
        Float32Array.from({ length: m * k }, (_, i) => x[(i * 7919) % x.length]),
        [m, k],
      ),
      big(n, k),
    ];
    for (let i = 0; i < 3; i++) tf.matMul(a, b, false, true).dispose();
    const events = [backend.driver.createEvent(true), backend.driver.createEvent(true)];
    backend.driver.recordEvent(events[0]);
    const host = performance.now();
    for (let i = 0; i < 20; i++) tf.matMul(a, b, false, true).dispose();
    const launch = (performance.now() - host) / 20;
    backend.driver.recordEvent(events[1]);
    const ms = backend.driver.elapsed(...events) / 20;
    console.log(
      `matmul ${m}x${n}x${k}: ${ms.toFixed(3)} ms, ${((2 * m * n * k) / ms / 1e9).toFixed(0)} TFLOP/s, host ${(launch * 1e3).toFixed(1)} us a call`,
    );
    tf.dispose([a, b]);
  });
console.log(backend.memory());
console.log(failed === 0 ? 'all kernels agree' : `${failed} FAILED`);
process.exitCode = failed === 0 ? 0 : 1;
