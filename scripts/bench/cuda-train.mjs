// `npm run bench -- cuda-train`: what a training step of the 1B model costs on the GPU, through the very functions that sb-train
// calls (forward, loss, backward on the tape, gradient norm, AdamW), on random tokens. Prints tokens/s, peak memory and time by
// kernel, and writes them as JSON. Options: --attention stick-breaking|softmax+rope|… --config configs/1b.yaml --layers n
// --micro-batches n (of each GPU) --steps n --mup (keep the configuration's muP multipliers) --recompute none|attention|block --out folder
// --precision default|fp8 --residual fp24|bfloat16 (default: as sb-train, bfloat16 with fp8) --moments float32|bfloat16
// --gpus n|all --shard optimizer|gradients|weights --ordered (parallel.orderedSums) --reduce float32|bfloat16 (parallel.reduceType) --turns n (with several GPUs steps are timed in turns
// with steps in which these tell each other nothing, since a card that is held back by its power is faster after a pause: what a step
// costs without its communication) --memory (what is in use after each phase) --length tokens of a sequence --context n (GPUs that share a sequence)
import { mkdirSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { median, seededRandom } from '@stickbreaking/base';
import { countActiveParameters, loadConfig, parseConfig, trainingFlopsPerToken } from '@stickbreaking/model';
import { batchGradients, Optimizer, OptimizerSchema } from '@stickbreaking/train';
import * as tf from '@tensorflow/tfjs-core';
import { byKernel, commandGiven, joinGpus, openGpu, timeLaunches } from './gpu.mjs';
import { noisyModel } from './noisy_model.mjs';

const { values: o } = parseArgs({
  options: {
    attention: { type: 'string', default: 'stick-breaking' },
    config: { type: 'string', default: 'configs/1b.yaml' },
    layers: { type: 'string' },
    sequences: { type: 'string', default: '4' },
    'micro-batches': { type: 'string', default: '1' },
    steps: { type: 'string', default: '6' },
    mup: { type: 'boolean', default: false },
    recompute: { type: 'string', default: 'none' },
    precision: { type: 'string', default: 'default' },
    residual: { type: 'string' },
    moments: { type: 'string', default: 'float32' },
    out: { type: 'string', default: 'benchmarks' },
    gpus: { type: 'string' },
    shard: { type: 'string', default: 'optimizer' },
    length: { type: 'string' },
    context: { type: 'string', default: '1' },
    ordered: { type: 'boolean', default: false },
    reduce: { type: 'string', default: 'float32' },
    turns: { type: 'string', default: '3' },
    memory: { type: 'boolean', default: false },
  },
});
// With --gpus this program starts itself once for each, and goes on there.
const context = Number(o.context);
const shared = { shard: o.shard, context, orderedSums: o.ordered, reduceType: o.reduce };
const world = o.gpus ? await joinGpus(o.gpus, shared) : undefined;
const { rank, size } = world?.collective ?? { rank: 0, size: 1 };
const backend = await openGpu(rank === 0);
const { driver } = backend;

const base = loadConfig(o.config);
const config = parseConfig({
  ...base,
  attention: o.attention,
  ...(o.layers ? { numLayers: Number(o.layers) } : {}),
  ...(o.length ? { contextLength: Number(o.length) } : {}),
  ...(o.mup ? {} : { mup: undefined }),
});
const [sequences, length, microBatches, steps] = [
  Number(o.sequences),
  config.contextLength,
  Number(o['micro-batches']),
  Number(o.steps),
];
const groups = size / context;
const WARM_UP = Math.max(2, Math.ceil(12 / microBatches));
const tokens = sequences * length * microBatches * groups;

const random = seededRandom(1, 'bench'); // every GPU's process draws the same
const model = noisyModel(config, random);
const say = rank === 0 ? console.log : () => {};
function phase(name) {
  if (!o.memory) return;
  const { free, used, peak } = driver.memory();
  const gib = (bytes) => (bytes / 2 ** 30).toFixed(2);
  say(`${name}: ${gib(used)} GiB in use, ${gib(peak)} at most so far, ${gib(free)} free`);
  driver.resetPeak();
}
phase('model');
const parameters = [...model.parameters.values()].reduce((sum, { size }) => sum + size, 0);
const weights = world?.collective.share(model);
const optimizer = new Optimizer(weights?.owned ?? model.parameters, OptimizerSchema.parse({ momentType: o.moments }), {
  apart: weights !== undefined,
});
phase('shared');
say(
  `${parameters.toLocaleString('en')} parameters, ${o.attention}, ${groups} × ${microBatches} × ${sequences} × ${length} tokens a step`,
);

const cuSeqlens = Int32Array.from({ length: sequences + 1 }, (_, i) => i * length);
function batch() {
  const ids = Int32Array.from({ length: sequences * length + 1 }, () => random.integer(config.vocabSize));
  return { tokens: ids.subarray(0, -1), targets: ids.subarray(1), cuSeqlens };
}
const usual = o.precision === 'fp8' ? 'bfloat16' : 'fp24';
const residualType = o.residual ?? usual;
const compute = { recompute: o.recompute, precision: o.precision, residualType };
// Before any clock runs, of every GPU: a run reads its text while the GPU is at work.
const turns = size > 1 ? Number(o.turns) : 1;
const drawn = Array.from({ length: turns * (size > 1 ? 2 : 1) * (steps + 1) + WARM_UP + 1 }, () =>
  Array.from({ length: microBatches * groups }, batch),
);
async function step() {
  const batches = drawn.pop();
  const started = performance.now();
  const { collective } = world ?? {};
  const rate = 3e-4;
  const early = (gradients, norm) =>
    optimizer.update(gradients, norm, rate, (inLayers) => weights?.renewWeights(inLayers));
  const options = { ...compute, ...(collective ? { collective, weights } : {}), early };
  const { loss, gradients } = await batchGradients(model, batches, options);
  tf.dispose([...gradients.values()]);
  return { loss, host: performance.now() - started };
}

/**
 * Time by kernel over one step, an event on either side of every launch; and the share of the time from the first launch to
 * the last in which the GPU was at work: what lies between one launch's end and the next one's start is the host being
 * late (or the events themselves, so the share is a lower bound).
 */
async function profile() {
  const end = timeLaunches(driver);
  await step();
  const { launches, whole } = end();
  return { busyShare: launches.reduce((sum, { ms }) => sum + ms, 0) / whole, kernels: byKernel(launches) };
}

/** What the host needs to enqueue a step's forward and backward, and its sums over several GPUs, the GPU not waited for. */
function enqueue() {
  driver.synchronize();
  weights?.beginStep();
  const one = batch();
  const started = performance.now();
  const shared = weights && {
    sums: weights.beginBatch(undefined, true),
    onReady: (name, gradient) => weights.settle(name, gradient),
  };
  const { loss, gradients, routing } = model.gradients(one, { scale: 1 / (sequences * length), ...compute, ...shared });
  weights?.endBatch();
  const made = weights?.finishSums(gradients) ?? gradients;
  const time = performance.now() - started;
  tf.dispose([loss, ...(routing ? [routing] : []), ...made.values()]);
  return time;
}

// JavaScript is compiled as it is seen to be run often: the first passes take the host three times as long as later ones.
const losses = [];
for (let i = 0; i < WARM_UP; i++) {
  const { loss } = await step();
  if (i < 3) losses.push(loss);
  if (i < 3) phase(`step ${i + 1}`);
}
driver.synchronize();
const { busyShare, kernels } = await profile();
const before = driver.memory();
driver.resetPeak();
/** Times of some steps, the first of which nobody times; their losses too, of the first turn. */
async function timed(kept) {
  await step();
  const times = [];
  for (let i = 0; i < steps; i++) {
    const started = performance.now();
    const { loss } = await step();
    kept?.push(loss);
    times.push(performance.now() - started);
  }
  driver.synchronize();
  return times;
}
const [communicating, silent] = [[], []];
let after;
for (let turn = 0; turn < turns; turn++) {
  communicating.push(await timed(turn === 0 ? losses : undefined));
  after ??= driver.memory();
  if (size === 1) continue;
  world.gpus.silent = true;
  silent.push(await timed());
  world.gpus.silent = false;
}
// A sequence that is shared has no pass of one GPU's.
const hostMs = context > 1 ? 0 : median([enqueue(), enqueue(), enqueue()]);
const ms = median(communicating.flat());
const silentMs = size > 1 ? median(silent.flat()) : ms;
const exposedMs = size > 1 ? median(communicating.map((times, i) => median(times) - median(silent[i]))) : 0;
const profiledMs = kernels.reduce((sum, [, { time }]) => sum + time, 0);
const perToken = trainingFlopsPerToken(config, length);
const engines = process.env.STICKBREAKING_SUM_ENGINES === '1' && o.reduce === 'float32';
const result = {
  what: 'training step through the model, the tape and the optimizer',
  command: commandGiven('cuda-train', o.out),
  gpu: driver.deviceName,
  driver: driver.driverVersion,
  date: new Date().toISOString(),
  attention: o.attention,
  blockSkipping: backend.blockSkipping,
  recompute: o.recompute,
  precision: o.precision,
  residualType,
  momentType: o.moments,
  layers: config.numLayers,
  parameters,
  activeParameters: countActiveParameters(config),
  tokensPerStep: tokens,
  msPerStep: ms,
  tokensPerSecond: (tokens / ms) * 1e3,
  gpus: size,
  shard: o.shard,
  ...(context > 1 ? { context } : {}),
  sequenceLength: length,
  ...(o.ordered ? { orderedSums: engines ? 'copy engines' : 'NCCL' } : {}),
  ...(o.reduce === 'float32' ? {} : { reduceType: o.reduce }),
  msPerStepWithoutCommunication: silentMs,
  exposedMs,
  turns: communicating.map((times, i) => ({ ms: times, ...(silent[i] ? { msWithoutCommunication: silent[i] } : {}) })),
  modelFlopsUtilisation: (tokens * perToken) / (ms / 1e3) / 989e12 / size,
  peakGiB: after.peak / 2 ** 30,
  grownBytes: after.used - before.used,
  hostMsToEnqueueForwardAndBackward: hostMs,
  profiledKernelMs: profiledMs,
  gpuBusyShare: busyShare,
  losses,
  kernels: Object.fromEntries(kernels),
};
const variant = [o.attention.replace('+', '-'), config.numLayers, ...(backend.blockSkipping ? [] : ['no-skipping'])];
// The two whose numbers of layers tell them apart need no name.
if (!/\b(1b|350m)\b/.test(o.config)) variant.unshift(basename(o.config, '.yaml'));
if (world) variant.push(`${size}-gpus`, ...(o.shard === 'optimizer' ? [] : [o.shard]));
if (o.ordered) variant.push(engines ? 'ordered-engines' : 'ordered');
if (o.reduce !== 'float32') variant.push(`reduce-${o.reduce}`);
if (o.length) variant.push(o.length);
if (context > 1) variant.push(`context-${context}`);
if (o.recompute !== 'none') variant.push(`recompute-${o.recompute}`);
if (o.precision !== 'default') variant.push(o.precision);
if (residualType !== usual) variant.push(`residual-${residualType}`);
if (o.moments !== 'float32') variant.push(`moments-${o.moments}`);
const file = `${o.out}/cuda-train-${variant.join('-')}.json`;
if (rank === 0) {
  mkdirSync(o.out, { recursive: true });
  writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`);
}
for (const [name, { time, launches }] of kernels.slice(0, 24))
  say(`${name.padEnd(30)} ${time.toFixed(2).padStart(9)} ms ${String(launches).padStart(6)} launches`);
const { tuned } = backend.cublas;
if (Object.keys(tuned).length > 0)
  say(`matmuls for which another than the first algorithm was chosen: ${JSON.stringify(tuned)}`);
say(`losses ${result.losses.map((x) => x.toFixed(4)).join(' ')}`);
say(
  `${o.attention}: ${ms.toFixed(1)} ms a step, ${result.tokensPerSecond.toFixed(0)} tokens/s, MFU ${(100 * result.modelFlopsUtilisation).toFixed(1)} %, peak ${result.peakGiB.toFixed(1)} GiB, ` +
    `kernels ${profiledMs.toFixed(1)} ms when profiled, GPU busy ${(100 * busyShare).toFixed(1)} %, enqueued by the host in ${hostMs.toFixed(1)} ms, ` +
    `without communication ${silentMs.toFixed(1)} ms, in turns ${exposedMs.toFixed(1)} ms less, grown ${result.grownBytes} bytes`,
);
await world?.close();
