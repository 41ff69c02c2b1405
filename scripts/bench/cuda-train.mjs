// What the GPU side of training costs: one step of the 1B model (forward, loss, backward, gradient norm, AdamW) as the
// very kernel calls that the tape makes, on random tokens. Prints tokens/s, peak memory and time by
// kernel, and writes them as JSON. Usage: cuda-train [--attention stick-breaking|softmax] [--layers 40] [--steps 5]
import { mkdirSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import { openCuda } from '../../packages/core/dist/backends/cuda/index.js';

const { values: o } = parseArgs({
  options: {
    attention: { type: 'string', default: 'stick-breaking' },
    layers: { type: 'string', default: '40' },
    steps: { type: 'string', default: '5' },
    out: { type: 'string', default: 'benchmarks' },
  },
});
const [layers, steps, stick] = [Number(o.layers), Number(o.steps), o.attention === 'stick-breaking'];
const [vocab, C, I, H, D, length, documents] = [49152, 1536, 4096, 24, 64, 4096, 4];
const N = length * documents;

const { backend, description } = openCuda();
tf.setBackend('cuda');
await tf.ready();
const { driver } = backend;
console.log(description);
const call = (name, inputs, attrs = {}) => tf.engine().runKernel(name, inputs, attrs);
const matmul = (a, b, transposeA, transposeB) => call('BatchMatMul', { a, b }, { transposeA, transposeB });
const free = (...list) => tf.dispose(list.flat());

// A little noise, repeated: made once on the host, so that 1.2 billion weights need no upload of their own.
const noise = Float32Array.from(
  { length: 2 ** 20 + 7 },
  () => (Math.random() + Math.random() + Math.random() - 1.5) * 0.04,
);
function weight(shape, scale = 1) {
  const size = shape.reduce((p, n) => p * n, 1);
  const values = new Float32Array(size);
  for (let at = 0; at < size; at += noise.length) values.set(noise.subarray(0, Math.min(noise.length, size - at)), at);
  return tf.tensor(scale === 1 ? values : values.map((x) => x * scale), shape);
}
const names = { q: [C, C], k: [C, C], v: [C, C], o: [C, C], gate: [I, C], up: [I, C], down: [C, I] };
const parameters = [];
const parameter = (tensor) => {
  parameters.push({ param: tensor, m: tf.zerosLike(tensor), v: tf.zerosLike(tensor), grad: null });
  return parameters.length - 1;
};
const embedding = parameter(weight([vocab, C]));
const blocks = Array.from({ length: layers }, () => ({
  norm1: parameter(tf.ones([C])),
  norm2: parameter(tf.ones([C])),
  ...Object.fromEntries(Object.entries(names).map(([name, shape]) => [name, parameter(weight(shape))])),
}));
const lastNorm = parameter(tf.ones([C]));
const W = (index) => parameters[index].param;
const count = parameters.reduce((sum, p) => sum + p.param.size, 0);
console.log(`${count.toLocaleString('en')} parameters, ${o.attention}, ${documents} x ${length} tokens`);

const cuSeqlens = Int32Array.from({ length: documents + 1 }, (_, i) => i * length);
const packing = {
  cuSeqlens,
  cuSeqlensK: cuSeqlens,
  scale: 1 / Math.sqrt(D),
  attendCurrent: false,
  window: 0,
  bias: 'none',
};
const turn = {
  cuSeqlens,
  firstPositions: new Int32Array(documents),
  inverseFrequencies: Float64Array.from({ length: D / 2 }, (_, i) => 10000 ** ((-2 * i) / D)),
};
const rotate = (x, inverse) => call('RotaryEmbedding', { x }, { ...turn, inverse })[0];
const heads = (x) => tf.reshape(x, [N, H, D]);
const flat = (x) => tf.reshape(x, [N, C]);

function attend(q, k, v) {
  if (stick) {
    const [output, remainder, saved] = call('StickBreakingAttention', { q, k, v }, packing);
    return { q, k, v, output, remainder, saved };
  }
  const [rq, rk] = [rotate(q, false), rotate(k, false)];
  free(q, k);
  const [output, logSumExp] = call('SoftmaxAttention', { q: rq, k: rk, v }, packing);
  return { q: rq, k: rk, v, output, logSumExp };
}
function attendGrad(a, dOutput) {
  const { q, k, v, output, remainder, saved, logSumExp } = a;
  if (stick) {
    const dRemainder = tf.zerosLike(remainder);
    const grads = call('StickBreakingAttentionGrad', { q, k, v, remainder, saved, dOutput, dRemainder }, packing);
    free(dRemainder);
    return grads;
  }
  const [dq, dk, dv] = call('SoftmaxAttentionGrad', { q, k, v, output, logSumExp, dOutput }, packing);
  const turned = [rotate(dq, true), rotate(dk, true), dv];
  free(dq, dk);
  return turned;
}

const norm = (x, index) => call('RMSNorm', { x, weight: W(index) }, { epsilon: 1e-5 });
function normGrad(x, index, inverseRms, dy) {
  const [dx, grad] = call('RMSNormGrad', { x, weight: W(index), inverseRms, dy }, { epsilon: 1e-5 });
  parameters[index].grad = tf.keep(grad);
  return dx;
}
/** dx of x·Wᵀ; the weight's gradient is kept. */
function linearGrad(x, index, dy) {
  parameters[index].grad = tf.keep(matmul(dy, x, true, false));
  return matmul(dy, W(index), false, false);
}
function addInto(a, b) {
  const sum = tf.add(a, b);
  free(a, b);
  return sum;
}

function blockForward(x, b) {
  const [n1, r1] = norm(x, b.norm1);
  const [q, k, v] = ['q', 'k', 'v'].map((name) => heads(matmul(n1, W(b[name]), false, true)));
  const a = attend(q, k, v);
  const projected = matmul(flat(a.output), W(b.o), false, true);
  const x2 = tf.add(x, projected);
  free(projected);
  const [n2, r2] = norm(x2, b.norm2);
  const [gate, up] = [matmul(n2, W(b.gate), false, true), matmul(n2, W(b.up), false, true)];
  const [act] = call('SwiGLU', { gate, up });
  const down = matmul(act, W(b.down), false, true);
  const y = tf.add(x2, down);
  free(down);
  return { x, n1, r1, a, x2, n2, r2, gate, up, act, y };
}

function blockBackward(s, b, dy) {
  const dAct = linearGrad(s.act, b.down, dy);
  const [dGate, dUp] = call('SwiGLUGrad', { gate: s.gate, up: s.up, dy: dAct });
  const dn2 = addInto(linearGrad(s.n2, b.gate, dGate), linearGrad(s.n2, b.up, dUp));
  free(dAct, dGate, dUp, s.act, s.gate, s.up, s.n2);
  const dx2 = addInto(normGrad(s.x2, b.norm2, s.r2, dn2), dy);
  const dOut = linearGrad(flat(s.a.output), b.o, dx2);
  const grads = attendGrad(s.a, heads(dOut));
  const dn1 = ['q', 'k', 'v'].map((name, i) => linearGrad(s.n1, b[name], flat(grads[i]))).reduce(addInto);
  const dx = addInto(normGrad(s.x, b.norm1, s.r1, dn1), dx2);
  free(dn2, dOut, grads, dn1, s.n1, s.r1, s.r2, s.x2, s.y, Object.values(s.a));
  return dx;
}

function step(number) {
  const ids = Int32Array.from({ length: N + 1 }, (_, i) => (i * 7919 + (i % 13) * 31) % vocab);
  const [tokens, targets] = [tf.tensor1d(ids.subarray(0, N), 'int32'), tf.tensor1d(ids.subarray(1), 'int32')];
  const states = [];
  let [x] = call('Embedding', { tokens, weight: W(embedding) });
  for (const b of blocks) {
    states.push(tf.tidy(() => blockForward(x, b)));
    x = states.at(-1).y;
  }
  const [hidden, r] = norm(x, lastNorm);
  const head = { hidden, weight: W(embedding), targets };
  const [loss, logSumExp] = call('LinearCrossEntropy', head, { logitScale: 1, ignoreIndex: -1 });
  const dLoss = tf.fill([N], 1 / N);
  const [dHidden, dHead] = call(
    'LinearCrossEntropyGrad',
    { ...head, logSumExp, dLoss },
    { logitScale: 1, ignoreIndex: -1 },
  );
  let dx = normGrad(x, lastNorm, r, dHidden);
  for (let l = layers - 1; l >= 0; l--) {
    const next = tf.tidy(() => blockBackward(states[l], blocks[l], dx));
    dx = next;
    if (l === 0) free(states[0].x);
  }
  const [dEmbedding] = call('EmbeddingGrad', { tokens, dy: dx }, { vocabSize: vocab });
  parameters[embedding].grad = addInto(dHead, dEmbedding);
  const [normOfAll] = call('GlobalNorm', Object.fromEntries(parameters.map((p, i) => [`x${i}`, p.grad])));
  const clip = Math.min(1, 1 / (normOfAll.dataSync()[0] + 1e-6));
  const inputs = {};
  for (const [i, p] of parameters.entries())
    for (const name of ['param', 'grad', 'm', 'v']) inputs[`${name}${i}`] = p[name];
  const hyper = { learningRate: 3e-4, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, step: number, gradientScale: clip };
  tf.engine().runKernel('AdamW', inputs, { ...hyper, weightDecays: parameters.map(() => 0.1) });
  const mean = tf.mean(loss);
  free(
    parameters.map((p) => p.grad),
    [tokens, targets, hidden, r, loss, logSumExp, dLoss, dHidden, dx, normOfAll],
  );
  return mean;
}

/** Time by kernel over one step: an event on either side of every launch. */
function profile(number) {
  const spans = [];
  driver.onLaunch = (name, run) => {
    const [start, end] = [driver.createEvent(true), driver.createEvent(true)];
    driver.recordEvent(start);
    run();
    driver.recordEvent(end);
    spans.push({ name, start, end });
  };
  step(number).dispose();
  driver.onLaunch = undefined;
  const totals = new Map();
  for (const { name, start, end } of spans) {
    const kind = name;
    totals.set(kind, (totals.get(kind) ?? 0) + driver.elapsed(start, end));
    for (const event of [start, end]) driver.call('cuEventDestroy_v2', event);
  }
  return [...totals].sort((a, b) => b[1] - a[1]);
}

const losses = [];
for (let i = 1; i <= 2; i++) losses.push(step(i).dataSync()[0]);
driver.synchronize();
const before = driver.memory();
driver.resetPeak();
const started = performance.now();
const means = Array.from({ length: steps }, (_, i) => step(3 + i));
const hostMs = (performance.now() - started) / steps;
driver.synchronize();
const ms = (performance.now() - started) / steps;
losses.push(...means.map((m) => m.dataSync()[0]));
const after = driver.memory();
const kernels = profile(3 + steps);
// Timed in a step of its own, an event either side of each launch: launch gaps count as kernel time here, so the sum tells
// where time goes, not how idle the GPU is.
const profiledMs = kernels.reduce((sum, [, time]) => sum + time, 0);
const result = {
  what: 'kernel-level training step',
  attention: o.attention,
  gpu: driver.deviceName,
  date: new Date().toISOString(),
  layers,
  parameters: count,
  tokens: N,
  msPerStep: ms,
  hostMsPerStep: hostMs,
  tokensPerSecond: (N / ms) * 1e3,
  peakGiB: after.peak / 2 ** 30,
  grownBytes: after.used - before.used,
  profiledKernelMs: profiledMs,
  losses,
  kernels: Object.fromEntries(kernels),
};
mkdirSync(o.out, { recursive: true });
writeFileSync(`${o.out}/cuda-train-${o.attention}-${layers}.json`, `${JSON.stringify(result, null, 2)}\n`);
for (const [name, time] of kernels.slice(0, 14)) console.log(`${name.padEnd(28)} ${time.toFixed(2).padStart(9)} ms`);
console.log(`losses ${losses.map((x) => x.toFixed(4)).join(' ')}`);
console.log(
  `${ms.toFixed(1)} ms a step, ${result.tokensPerSecond.toFixed(0)} tokens/s, peak ${result.peakGiB.toFixed(1)} GiB, kernels ${profiledMs.toFixed(1)} ms when profiled, grown ${result.grownBytes} bytes`,
);
