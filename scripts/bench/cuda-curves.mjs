// `npm run bench -- cuda-curves`: what a setting changes in a training run's losses. Trains a configuration's model several times
// on the same batches of real text: in each precision, and once more from other initial weights, which says how far apart runs
// are that differ in nothing that matters. Writes the curves and their distances as JSON.
// Options: --config configs/350m.yaml --tokenizer FILE --data FILE --steps 1000 --batch 4096 (tokens) --peak 6e-4
// --runs default:0,default:1,fp8:0 (precision:seed[:moments]; the others are compared with the first) --out folder
import { mkdirSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { seededRandom } from '@stickbreaking/base';
import { openTokenizer, readDocuments } from '@stickbreaking/data';
import { LlamaModel } from '@stickbreaking/model';
import { batchGradients, loadRunConfig, Optimizer } from '@stickbreaking/train';
import * as tf from '@tensorflow/tfjs-core';
import { commandGiven, openGpu } from './gpu.mjs';

const { values: o } = parseArgs({
  options: {
    config: { type: 'string', default: 'configs/350m.yaml' },
    tokenizer: { type: 'string' },
    data: { type: 'string' },
    steps: { type: 'string', default: '1000' },
    batch: { type: 'string', default: '4096' },
    peak: { type: 'string', default: '6e-4' },
    runs: { type: 'string', default: 'default:0,default:1,fp8:0' },
    out: { type: 'string', default: 'benchmarks' },
  },
});
if (!o.tokenizer || !o.data) {
  console.error(
    'usage: npm run bench -- cuda-curves --tokenizer FILE --data FILE [--config FILE] [--runs default:0,…]',
  );
  process.exit(1);
}
const backend = await openGpu();
const [steps, batchTokens] = [Number(o.steps), Number(o.batch)];
const { model, optimizer } = loadRunConfig(o.config);
const contextLength = Math.min(model.contextLength, batchTokens);

const tokenizer = openTokenizer(o.tokenizer);
const needed = steps * batchTokens + 1;
const ids = new Int32Array(needed);
let filled = 0;
for await (const { text } of readDocuments({ path: o.data })) {
  // A book in pieces: what is not needed of it is not tokenized.
  for (let at = 0; at < text.length && filled < needed; at += 2 ** 18) {
    const piece = tokenizer.encode(text.slice(at, at + 2 ** 18));
    ids.set(piece.slice(0, needed - filled), filled);
    filled += Math.min(piece.length, needed - filled);
  }
  if (filled === needed) break;
}
if (filled < needed) throw new Error(`${o.data} has ${filled} tokens; ${needed} are needed`);

const cuSeqlens = Int32Array.from({ length: batchTokens / contextLength + 1 }, (_, i) => i * contextLength);
function batchOf(step) {
  const [tokens, targets] = [0, 1].map((shift) => {
    const from = step * batchTokens + shift;
    return ids.slice(from, from + batchTokens);
  });
  return { tokens, targets, cuSeqlens };
}

// Initial weights are one list of normal numbers, read from places that the seed decides: a billion draws would take a minute.
const noise = seededRandom(1).normals(2 ** 22 + 15, model.initializerRange);
function create(seed) {
  const places = seededRandom(seed, 'places');
  return LlamaModel.from(model, (name, shape) => {
    const values = new Float32Array(shape.reduce((product, n) => product * n, 1));
    if (/norm/.test(name)) return values.fill(1);
    for (let at = 0, from; at < values.length; at += noise.length - from) {
      from = places.integer(noise.length);
      values.set(noise.subarray(from, Math.min(noise.length, from + values.length - at)), at);
    }
    return values;
  });
}

const warmup = Math.min(100, Math.floor(steps / 10));
const rate = (step) =>
  step < warmup
    ? (Number(o.peak) * (step + 1)) / warmup
    : Number(o.peak) * (0.1 + 0.45 * (1 + Math.cos((Math.PI * (step - warmup)) / (steps - warmup))));

const runs = [];
for (const name of o.runs.split(',')) {
  const [precision, seed = '0', momentType = 'float32'] = name.split(':');
  const losses = [];
  const started = performance.now();
  const trained = create(Number(seed));
  const adamW = new Optimizer(trained.parameters, { ...optimizer, momentType });
  for (let step = 0; step < steps; step++) {
    const { loss, gradients, gradientNorm } = await batchGradients(trained, [batchOf(step)], { precision });
    adamW.update(gradients, gradientNorm, rate(step));
    tf.dispose([...gradients.values()]);
    losses.push(loss);
  }
  adamW.dispose();
  trained.dispose();
  runs.push({ name, losses, seconds: (performance.now() - started) / 1000 });
  console.log(
    `${name}: ${losses[0].toFixed(4)} → ${losses.at(-1).toFixed(4)} nats in ${runs.at(-1).seconds.toFixed(0)} s`,
  );
}

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
/** Means over `window` steps: a single batch's loss is noisier than what is asked about. */
const smooth = (losses, window) => losses.slice(window - 1).map((_, i) => mean(losses.slice(i, i + window)));
const WINDOW = Math.min(50, Math.ceil(steps / 4));
const [first, ...others] = runs.map(({ losses }) => smooth(losses, WINDOW));
const distances = others.map((curve, i) => {
  const differences = curve.map((loss, at) => loss - first[at]);
  const largest = Math.max(...differences.map(Math.abs));
  return {
    run: runs[i + 1].name,
    last: differences.at(-1),
    largest,
    at: differences.findIndex((one) => Math.abs(one) === largest) + WINDOW,
    largestOfSecondHalf: Math.max(...differences.slice(differences.length / 2).map(Math.abs)),
    mean: mean(differences),
  };
});
for (const d of distances)
  console.log(
    `${d.run} − ${runs[0].name}, means of ${WINDOW} steps: at the end ${d.last.toFixed(4)} nats, largest ${d.largest.toFixed(4)} (step ${d.at}), ` +
      `in the second half ${d.largestOfSecondHalf.toFixed(4)}, mean ${d.mean.toFixed(4)}`,
  );
const file = `${o.out}/cuda-curves-${basename(o.config).replace(/\.yaml$/, '')}.json`;
mkdirSync(o.out, { recursive: true });
const about = {
  command: commandGiven('cuda-curves', o.out),
  gpu: backend.driver.deviceName,
  date: new Date().toISOString(),
};
writeFileSync(file, `${JSON.stringify({ ...about, steps, batchTokens, window: WINDOW, distances, runs })}\n`);
