// `npm run bench -- cuda-moe`: a mixture of experts on the GPU (the paper's 6.5B model's by default), each of its kernels and the layer
// forward and with the backward, beside a dense SwiGLU as wide as the experts that a token passes. Random normal inputs, medians
// of CUDA events. Rows go to experts about evenly, then by Zipf's law with exponent 1/2.
// `--pytorch [python3]` runs the layer by torch._grouped_mm in the same call; `--compile` compiles it too (half a minute).
// Options: --tokens n --width n --units n --experts n --active n, --repeats n, --out folder.

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median } from '@stickbreaking/base';
import * as tf from '@tensorflow/tfjs-core';
import { commandGiven, openGpu, timeLaunches } from './gpu.mjs';

const { values: o } = parseArgs({
  options: {
    tokens: { type: 'string', default: '16384' },
    width: { type: 'string', default: '1536' },
    units: { type: 'string', default: '512' },
    experts: { type: 'string', default: '64' },
    active: { type: 'string', default: '8' },
    repeats: { type: 'string', default: '7' },
    pytorch: { type: 'string' },
    script: { type: 'string', default: join(dirname(fileURLToPath(import.meta.url)), 'pytorch_moe.py') },
    compile: { type: 'boolean', default: false },
    out: { type: 'string', default: 'benchmarks' },
  },
});
const sizes = Object.fromEntries(
  ['tokens', 'width', 'units', 'experts', 'active'].map((name) => [name, Number(o[name])]),
);
const { tokens, width, units, experts, active } = sizes;
const rows = tokens * active;
const backend = await openGpu();
const { driver } = backend;
const run = (name, inputs, attrs = {}) => tf.engine().runKernel(name, inputs, attrs);

const noise = Float32Array.from({ length: 2 ** 20 + 7 }, () => {
  const radius = Math.sqrt(-2 * Math.log(1 - Math.random()));
  return radius * Math.cos(2 * Math.PI * Math.random());
});
function normal(shape, scale = 1, change = () => {}) {
  const values = new Float32Array(shape.reduce((product, n) => product * n, 1));
  const start = Math.floor(Math.random() * noise.length);
  for (let i = 0, at = start; i < values.length; i++, at = at + 1 === noise.length ? 0 : at + 1)
    values[i] = noise[at] * scale;
  change(values);
  return tf.tensor(values, shape);
}

const IN_A_ROW = 3;
/** Median milliseconds of `body`, which returns tensors to dispose of. */
function milliseconds(body) {
  const times = [];
  for (let i = 0; i < Number(o.repeats) + 2; i++) {
    const [start, end] = [driver.createEvent(true), driver.createEvent(true)];
    driver.recordEvent(start);
    for (let j = 0; j < IN_A_ROW; j++) tf.dispose(body());
    driver.recordEvent(end);
    if (i >= 2) times.push(driver.elapsed(start, end) / IN_A_ROW);
    for (const event of [start, end]) driver.call('cuEventDestroy_v2', event);
  }
  return median(times);
}

/** Median milliseconds of each kernel that `body` launches, all of its launches together. */
function kernels(body) {
  const seen = new Map();
  for (let i = 0; i < Number(o.repeats); i++) {
    const end = timeLaunches(driver);
    tf.dispose(body());
    const own = new Map();
    for (const { name, ms } of end().launches) own.set(name, (own.get(name) ?? 0) + ms);
    for (const [name, ms] of own) seen.set(name, [...(seen.get(name) ?? []), ms]);
  }
  return Object.fromEntries([...seen].map(([name, times]) => [name, median(times)]));
}

const products = {
  mixture_up: 2,
  mixture_down: 1,
  mixture_down_grad: 1,
  mixture_up_grad: 2,
  mixture_down_weights: 1,
  mixture_up_weights: 2,
};
const teraflops = (name, ms) => (products[name] * 2 * rows * width * units) / ms / 1e9;

/** Logits are those of noise, less `skew` · ln(1 + expert). */
function layer(skew) {
  const x = normal([tokens, width], 1, (values) => {
    for (let t = 0; t < tokens; t++) values[t * width] = 1;
  });
  const router = normal([experts, width], 0.7 / Math.sqrt(width), (values) => {
    for (let e = 0; e < experts; e++) values[e * width] = -skew * Math.log(1 + e);
  });
  const [input, output] = [
    normal([experts, 2 * units, width], 1 / Math.sqrt(width)),
    normal([experts, width, units], 1 / Math.sqrt(units)),
  ];
  const dy = normal([tokens, width]);
  const attrs = { active, balanceWeight: 0.01, zWeight: 0.001 };
  const weights = { x, router, input, output };
  const forward = () => run('MixtureOfExperts', weights, attrs);
  const backward = ([, , choices, logits, saved], sums = {}) =>
    run('MixtureOfExpertsGrad', { ...weights, choices, logits, saved, dy, ...sums }, attrs);
  const both = () => {
    const kept = forward();
    return [...kept, ...backward(kept)];
  };
  const kept = forward();
  const counts = kept[1].dataSync().slice(2);
  let sums = backward(kept).slice(1);
  /** The gradients of the weights are added to those of the micro-batch before. */
  const adding = () => {
    const [dx, ...next] = backward(kept, { sumRouter: sums[0], sumInput: sums[1], sumOutput: sums[2] });
    tf.dispose(sums);
    sums = next;
    return dx;
  };
  const added = kernels(adding);
  const result = {
    rowsOfAnExpert: [Math.min(...counts), Math.max(...counts)],
    forwardMs: milliseconds(forward),
    bothMs: milliseconds(both),
    kernels: kernels(both),
    addingToSums: { mixture_down_weights: added.mixture_down_weights, mixture_up_weights: added.mixture_up_weights },
    savedBytesPerToken: keptBytes(forward) / tokens,
  };
  tf.dispose([kept, sums, Object.values(weights), dy]);
  return result;
}

/** Of device memory, what a forward leaves for its backward: without y, which the next layer has. */
function keptBytes(forward) {
  driver.synchronize();
  const before = driver.memory().used;
  const [y, ...kept] = forward();
  y.dispose();
  driver.synchronize();
  const after = driver.memory().used;
  tf.dispose(kept);
  return after - before;
}

function dense() {
  const wide = active * units;
  const [x, dy] = [normal([tokens, width]), normal([tokens, width])];
  const [gate, up] = [0, 1].map(() => normal([wide, width], 1 / Math.sqrt(width)));
  const down = normal([width, wide], 1 / Math.sqrt(wide));
  const forward = () => {
    const opened = run('Linears', [x, gate, up]);
    const [hidden] = run('SwiGLU', { gate: opened[0], up: opened[1] });
    return [...opened, hidden, run('Linears', [hidden, down])[0]];
  };
  const both = () => {
    const [gateOut, upOut, hidden, y] = forward();
    const [dHidden] = run('LinearsGrad', [dy, down]);
    const dDown = run('WeightGrads', { x: hidden, dy0: dy });
    const [dGate, dUp] = run('SwiGLUGrad', { gate: gateOut, up: upOut, dy: dHidden });
    const dWeights = run('WeightGrads', { x, dy0: dGate, dy1: dUp });
    const dx = run('LinearsGrad', [dGate, gate, dUp, up]);
    return [gateOut, upOut, hidden, y, dHidden, dDown, dGate, dUp, dWeights, dx];
  };
  const result = { forwardMs: milliseconds(forward), bothMs: milliseconds(both) };
  tf.dispose([x, dy, gate, up, down]);
  return result;
}

const report = {
  command: commandGiven('cuda-moe', o.out),
  gpu: driver.deviceName,
  driver: driver.driverVersion,
  date: new Date().toISOString(),
  sizes,
  even: layer(0),
  skewed: layer(0.5),
  dense: dense(),
};
if (o.pytorch !== undefined) {
  const given = [o.script, JSON.stringify(sizes), ...(o.compile ? ['--compile'] : [])];
  report.pytorch = JSON.parse(
    execFileSync(o.pytorch || 'python3', given, { encoding: 'utf8' })
      .trim()
      .split('\n')
      .at(-1),
  );
  report.denseAgain = dense(); // how far the card's speed drifted
}
const f = (ms) => ms.toFixed(3).padStart(7);
console.log(`${tokens} tokens of ${width}, ${active} of ${experts} experts of ${units}`);
for (const kind of ['even', 'skewed']) {
  const { rowsOfAnExpert, forwardMs, bothMs, kernels: own, addingToSums, savedBytesPerToken } = report[kind];
  console.log(
    `\n${kind}: ${rowsOfAnExpert.join(' to ')} rows an expert, ${savedBytesPerToken.toFixed(0)} bytes a token kept`,
  );
  for (const [name, ms] of Object.entries(own).sort((a, b) => b[1] - a[1])) {
    const adding = addingToSums[name] ? `, added to sums ${teraflops(name, addingToSums[name]).toFixed(0)}` : '';
    console.log(
      `  ${name.padEnd(28)} ${f(ms)} ms${name in products ? ` ${teraflops(name, ms).toFixed(0)} TFLOP/s${adding}` : ''}`,
    );
  }
  console.log(`  layer: forward ${f(forwardMs)}, with backward ${f(bothMs)} ms`);
}
const { dense: beside, pytorch, denseAgain } = report;
console.log(
  `\ndense SwiGLU of ${active * units}: forward ${f(beside.forwardMs)}, with backward ${f(beside.bothMs)} ms`,
);
console.log(
  `mixture ÷ dense: ${(report.even.bothMs / beside.bothMs).toFixed(2)}, skewed ${(report.skewed.bothMs / beside.bothMs).toFixed(2)}`,
);
const { tuned } = backend.cublas;
if (Object.keys(tuned).length > 0)
  console.log(`matmuls for which another than the first algorithm was chosen: ${JSON.stringify(tuned)}`);
if (pytorch) {
  for (const [name, value] of Object.entries(pytorch))
    console.log(`  PyTorch ${name.padEnd(22)} ${typeof value === 'number' ? `${f(value)} ms` : value}`);
  console.log(`  dense again ${f(denseAgain.bothMs)} ms`);
}
mkdirSync(o.out, { recursive: true });
writeFileSync(join(o.out, 'cuda-moe.json'), `${JSON.stringify(report, null, 2)}\n`);
