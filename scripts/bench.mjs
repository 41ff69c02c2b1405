// `pnpm bench cpu`: the native CPU backend measured against tfjs's own in one run. Prints a table and writes it under
// benchmarks/ as JSON: matrix products, attention forward and backward, and a training step with its profile.
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { adamW, selectBackend, softmaxAttention, stickBreakingAttention } from '@stickbreaking/core';
import { LlamaModel } from '@stickbreaking/model';
import * as tf from '@tensorflow/tfjs-core';

if (process.argv[2] !== 'cpu') {
  console.error('usage: pnpm bench cpu');
  process.exit(1);
}

/** The median of milliseconds of a few runs after a first one. */
function milliseconds(run, repeats) {
  const times = [];
  for (let i = 0; i <= repeats; i++) {
    const start = performance.now();
    // Without a result: tidy would walk over every number of an array, looking for tensors.
    tf.tidy(() => {
      run();
    });
    if (i > 0) times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
}

async function matrixProduct(backend, size, repeats) {
  await selectBackend(backend);
  const [a, b] = [tf.randomNormal([size, size]), tf.randomNormal([size, size])];
  const time = milliseconds(() => tf.matMul(a, b).dataSync(), repeats);
  tf.dispose([a, b]);
  return (2 * size ** 3) / time / 1e6;
}

const heads = 4;
const headDim = 64;
async function attention(backend, attend, length, repeats) {
  await selectBackend(backend);
  const cuSeqlens = Int32Array.of(0, length);
  const qkv = [0, 1, 2].map(() => tf.randomNormal([length, heads, headDim]));
  const step = tf.grads((q, k, v) => attend(q, k, v, { cuSeqlens }).sum());
  const time = milliseconds(() => step(qkv).map((one) => one.dataSync()), repeats);
  tf.dispose(qkv);
  return time;
}

const attends = {
  'stick-breaking': (...args) => stickBreakingAttention(...args).output,
  softmax: (q, k, v, options) => softmaxAttention(q, k, v, { ...options, position: { kind: 'none' } }),
};

async function trainingStep(kind, tokens) {
  await selectBackend('native');
  const config = { vocabSize: 4096, hiddenSize: 256, intermediateSize: 688, numLayers: 4, numHeads: 4 };
  const model = LlamaModel.create({ ...config, attention: kind, tieEmbeddings: true });
  const parameters = [...model.parameters.values()];
  const moments = [0, 1].map(() => parameters.map((one) => tf.variable(tf.zerosLike(one))));
  const ids = Int32Array.from({ length: tokens }, () => Math.floor(Math.random() * config.vocabSize));
  const batch = { tokens: ids, targets: ids, cuSeqlens: Int32Array.of(0, tokens / 2, tokens) };
  const constants = { learningRate: 1e-3, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, gradientScale: 1 };
  const one = (step) => {
    const { loss, gradients } = model.gradients(batch, { scale: 1 / tokens });
    const [firstMoments, secondMoments] = moments;
    const weightDecays = parameters.map(() => 0.1);
    adamW({
      ...constants,
      parameters,
      gradients: [...gradients.values()],
      firstMoments,
      secondMoments,
      weightDecays,
      step,
    });
    tf.dispose([loss, ...gradients.values()]);
  };
  one(1);
  const spent = profileKernels();
  const start = performance.now();
  const steps = 1;
  for (let i = 0; i < steps; i++) one(i + 2);
  const total = performance.now() - start;
  const shares = Object.entries(spent())
    .map(([kernel, time]) => ({ kernel, share: time / total }))
    .sort((a, b) => b.share - a.share);
  model.dispose();
  return { tokensPerSecond: (steps * tokens * 1000) / total, shares: shares.slice(0, 12) };
}

/** Times every kernel of the backend from here on; the function that it returns stops that and gives milliseconds. */
function profileKernels() {
  const spent = {};
  let running = 0;
  const restore = [];
  for (const kernel of tf.getKernelsForBackend(tf.getBackend())) {
    const run = kernel.kernelFunc;
    restore.push(() => {
      kernel.kernelFunc = run;
    });
    kernel.kernelFunc = (args) => {
      const start = performance.now();
      running++;
      try {
        return run(args);
      } finally {
        running--;
        // A kernel made of others has their time already.
        if (running === 0) spent[kernel.kernelName] = (spent[kernel.kernelName] ?? 0) + performance.now() - start;
      }
    };
  }
  return () => {
    for (const one of restore) one();
    return spent;
  };
}

const { description } = await selectBackend('native');
const report = { date: new Date().toISOString(), cpu: cpus()[0].model, cores: cpus().length, description };
console.log(description);

report.matrixProducts = [];
for (const size of [256, 512, 1024]) {
  const native = await matrixProduct('native', size, 9);
  const cpu = await matrixProduct('cpu', size, 1);
  report.matrixProducts.push({ size, nativeGflops: native, cpuGflops: cpu, ratio: native / cpu });
  console.log(
    `matrix product ${size}: native ${native.toFixed(1)}, cpu ${cpu.toFixed(2)} GFLOP/s, ${(native / cpu).toFixed(0)}×`,
  );
}

report.attention = [];
for (const [kind, attend] of Object.entries(attends)) {
  for (const length of [128]) {
    const native = await attention('native', attend, length, 3);
    const cpu = length > 128 ? undefined : await attention('cpu', attend, length, 1);
    report.attention.push({ kind, length, heads, headDim, nativeMilliseconds: native, cpuMilliseconds: cpu });
    const against = cpu ? `, cpu ${cpu.toFixed(0)} ms, ${(cpu / native).toFixed(1)}×` : '';
    console.log(`${kind} attention, forward and backward, ${length} tokens: native ${native.toFixed(1)} ms${against}`);
  }
}

report.training = [];
for (const kind of ['stick-breaking', 'softmax+rope']) {
  const measured = await trainingStep(kind, 256);
  report.training.push({ kind, ...measured });
  console.log(`training, ${kind}: ${measured.tokensPerSecond.toFixed(0)} tokens/s`);
  for (const { kernel, share } of measured.shares) console.log(`  ${(share * 100).toFixed(1).padStart(5)} % ${kernel}`);
}

mkdirSync('benchmarks', { recursive: true });
writeFileSync('benchmarks/cpu.json', `${JSON.stringify(report, null, 2)}\n`);
console.log('written to benchmarks/cpu.json');
