// `npm run bench -- cuda`: the fused attention kernels on the GPU, forward and forward + backward, at five shapes of real models:
// stick-breaking with and without block skipping, softmax, softmax with RoPE and with forget gates. Random normal inputs, medians of
// CUDA events.
// `--pytorch [python3]` runs PyTorch's softmax attention (FlashAttention-2, cuDNN) in the same call and prints ratios.
// Options: --only part of a shape's name, --repeats n, --out folder.

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median } from '@stickbreaking/base';
import { forgettingBias, ropeInverseFrequencies } from '@stickbreaking/core';
import * as tf from '@tensorflow/tfjs-core';
import { commandGiven, openGpu } from './gpu.mjs';

const { values: o } = parseArgs({
  options: {
    pytorch: { type: 'string' },
    script: { type: 'string', default: join(dirname(fileURLToPath(import.meta.url)), 'pytorch_attention.py') },
    only: { type: 'string', default: '' },
    repeats: { type: 'string', default: '11' },
    out: { type: 'string', default: 'benchmarks' },
  },
});
const shapes = [
  { name: '1B model', batch: 4, heads: 24, tokens: 4096, headDim: 64 },
  { name: '350M model', batch: 8, heads: 32, tokens: 2048, headDim: 32 },
  { name: '16K context', batch: 1, heads: 24, tokens: 16_384, headDim: 64 },
  { name: 'head dimension 128', batch: 4, heads: 12, tokens: 4096, headDim: 128 },
  { name: 'head dimension 128, 16K', batch: 1, heads: 12, tokens: 16_384, headDim: 128 },
].filter(({ name }) => name.includes(o.only));
const backend = await openGpu();
const { driver } = backend;
const run = (name, inputs, attrs) => tf.engine().runKernel(name, inputs, attrs);

const noise = Float32Array.from({ length: 2 ** 20 + 7 }, () => {
  const radius = Math.sqrt(-2 * Math.log(1 - Math.random()));
  return radius * Math.cos(2 * Math.PI * Math.random());
});
function normal(shape) {
  const values = new Float32Array(shape.reduce((product, n) => product * n, 1));
  const start = Math.floor(Math.random() * noise.length);
  for (let i = 0, at = start; i < values.length; i++, at = at + 1 === noise.length ? 0 : at + 1) values[i] = noise[at];
  return tf.tensor(values, shape);
}

const IN_A_ROW = 8;
/** Median milliseconds of `body`, which returns tensors to dispose of; several in a row hide the first one's launch. */
function milliseconds(body) {
  const times = [];
  for (let i = 0; i < Number(o.repeats) + 3; i++) {
    const [start, end] = [driver.createEvent(true), driver.createEvent(true)];
    driver.recordEvent(start);
    for (let j = 0; j < IN_A_ROW; j++) tf.dispose(body());
    driver.recordEvent(end);
    if (i >= 3) times.push(driver.elapsed(start, end) / IN_A_ROW);
    for (const event of [start, end]) driver.call('cuEventDestroy_v2', event);
  }
  return median(times);
}

function measure({ batch, heads, tokens, headDim }) {
  const cuSeqlens = Int32Array.from({ length: batch + 1 }, (_, i) => i * tokens);
  const N = batch * tokens;
  const [q, k, v, dOutput] = [0, 1, 2, 3].map(() => normal([N, heads, headDim]));
  const dRemainder = normal([N, heads]);
  const packing = {
    cuSeqlens,
    cuSeqlensK: cuSeqlens,
    scale: 1 / Math.sqrt(headDim),
    attendCurrent: false,
    window: 0,
    bias: 'none',
  };
  const positions = { cuSeqlens, firstPositions: new Int32Array(batch) };
  const inverseFrequencies = ropeInverseFrequencies(headDim);
  const rotary = { queries: positions, keys: positions, inverseFrequencies, inverse: false };

  const stick = () => run('StickBreakingAttention', { q, k, v }, packing);
  const stickBoth = () => {
    const [output, remainder, saved] = stick();
    const gradients = run('StickBreakingAttentionGrad', { q, k, v, remainder, saved, dOutput, dRemainder }, packing);
    return [output, remainder, saved, ...gradients];
  };
  const soft = () => run('SoftmaxAttention', { q, k, v }, packing);
  const softBoth = () => {
    const [output, logSumExp] = soft();
    return [output, logSumExp, ...run('SoftmaxAttentionGrad', { q, k, v, output, logSumExp, dOutput }, packing)];
  };
  const rope = () => run('RotarySoftmaxAttention', { q, k, v }, { ...packing, rotary, consumed: false });
  const ropeBoth = () => {
    const [output, logSumExp, turnedQ, turnedK] = rope();
    const inputs = { q: turnedQ, k: turnedK, v, output, logSumExp, dOutput };
    return [output, logSumExp, turnedQ, turnedK, ...run('RotarySoftmaxAttentionGrad', inputs, { ...packing, rotary })];
  };
  // Gates that leave 1/e of a key after 64 tokens, give or take.
  const keyBias = tf.tidy(() => forgettingBias(tf.neg(tf.softplus(tf.add(normal([N, heads]), -4))), cuSeqlens));
  const forgetting = { ...packing, bias: 'keys' };
  const forget = () => run('SoftmaxAttention', { q, k, v, keyBias }, forgetting);
  const forgetBoth = () => {
    const [output, logSumExp] = forget();
    const inputs = { q, k, v, keyBias, output, logSumExp, dOutput };
    return [output, logSumExp, ...run('SoftmaxAttentionGrad', inputs, forgetting)];
  };
  const pair = (forward, both) => ({ forwardMs: milliseconds(forward), bothMs: milliseconds(both) });
  const skipping = backend.blockSkipping;
  backend.blockSkipping = false;
  const plain = pair(stick, stickBoth);
  backend.blockSkipping = true;
  const skipped = pair(stick, stickBoth);
  backend.blockSkipping = skipping;
  const result = {
    stickBreaking: plain,
    withSkipping: skipped,
    softmax: pair(soft, softBoth),
    softmaxRope: pair(rope, ropeBoth),
    softmaxForget: pair(forget, forgetBoth),
  };
  tf.dispose([q, k, v, dOutput, dRemainder, keyBias]);
  return result;
}

const rows = shapes.map((shape) => ({ ...shape, ...measure(shape) }));
if (o.pytorch !== undefined) {
  const output = execFileSync(o.pytorch || 'python3', [o.script, JSON.stringify(shapes)], { encoding: 'utf8' });
  for (const [i, line] of output.trim().split('\n').entries()) Object.assign(rows[i], JSON.parse(line));
  const again = measure(shapes[0]);
  rows[0].again = again; // the same after PyTorch: how far the card's speed drifted
}
const f = (ms) => ms.toFixed(3).padStart(7);
for (const { name, batch, heads, tokens, headDim, ...kinds } of rows) {
  console.log(`\n${name}: b${batch} h${heads} t${tokens} d${headDim}`);
  for (const kind of [
    'stickBreaking',
    'withSkipping',
    'softmax',
    'softmaxRope',
    'softmaxForget',
    'flashAttention2',
    'cudnn',
  ]) {
    if (!kinds[kind]) continue;
    const { forwardMs, bothMs } = kinds[kind];
    const peer = kinds.flashAttention2;
    const ratio = peer
      ? `   ÷ FlashAttention-2: ${(forwardMs / peer.forwardMs).toFixed(2)}  ${(bothMs / peer.bothMs).toFixed(2)}`
      : '';
    console.log(`  ${kind.padEnd(16)} forward ${f(forwardMs)} ms, with backward ${f(bothMs)} ms${ratio}`);
  }
}
if (rows[0].again)
  console.log(
    `\n1B model again: stick-breaking ${f(rows[0].again.stickBreaking.forwardMs)}, ${f(rows[0].again.stickBreaking.bothMs)} ms`,
  );
mkdirSync(o.out, { recursive: true });
const report = {
  command: commandGiven('cuda', o.out),
  gpu: driver.deviceName,
  driver: driver.driverVersion,
  date: new Date().toISOString(),
  rows,
};
writeFileSync(join(o.out, 'cuda-attention.json'), `${JSON.stringify(report, null, 2)}\n`);
