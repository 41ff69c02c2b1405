// What block skipping saves on a trained model and real text: a forward and backward of the whole model over one document
// of --length tokens, with and without it, the attention kernels timed apart.
// Usage: node scripts/bench/cuda-skip.mjs --checkpoint DIR --data FILE [--length 16384] [--out folder]
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openTokenizer, readDocuments } from '@stickbreaking/data';
import { LlamaModel, resolveCheckpoint } from '@stickbreaking/model';
import * as tf from '@tensorflow/tfjs-core';
import { commandGiven, openGpu } from './gpu.mjs';
import { median } from './measure.mjs';

const { values: o } = parseArgs({
  options: {
    checkpoint: { type: 'string' },
    data: { type: 'string' },
    length: { type: 'string', default: '16384' },
    out: { type: 'string', default: 'benchmarks' },
  },
});
if (!o.checkpoint || !o.data) {
  console.error('usage: npm run bench -- cuda-skip --checkpoint DIR --data FILE [--length 16384] [--out folder]');
  process.exit(1);
}
const backend = await openGpu();
const { driver } = backend;
const directory = resolveCheckpoint(o.checkpoint);
const model = LlamaModel.load(directory);
const tokenizer = openTokenizer(join(directory, 'tokenizer.json'));
const length = Number(o.length);
let ids = [];
for await (const { text } of readDocuments({ path: o.data })) {
  if (ids.length > length) break;
  ids = ids.concat([...tokenizer.encode(text)]);
}
const tokens = Int32Array.from(ids.slice(0, length));
const targets = Int32Array.from(ids.slice(1, length + 1));
const batch = { tokens, targets, cuSeqlens: Int32Array.of(0, tokens.length) };

function attentionMs() {
  const spans = [];
  driver.onLaunch = (name, run) => {
    if (!name.startsWith('flash_')) return run();
    const [start, end] = [driver.createEvent(true), driver.createEvent(true)];
    driver.recordEvent(start);
    run();
    driver.recordEvent(end);
    spans.push({ name, start, end });
  };
  const started = performance.now();
  const { loss, gradients } = model.gradients(batch, { scale: 1 / tokens.length });
  const value = loss.dataSync()[0];
  driver.synchronize();
  const wall = performance.now() - started;
  driver.onLaunch = undefined;
  tf.dispose([loss, ...gradients.values()]);
  const totals = { forward: 0, backward: 0, wall, loss: value };
  for (const { name, start, end } of spans)
    totals[name === 'flash_forward' ? 'forward' : 'backward'] += driver.elapsed(start, end);
  return totals;
}
const result = {
  command: commandGiven('cuda-skip', o.out),
  gpu: driver.deviceName,
  date: new Date().toISOString(),
  length: tokens.length,
  without: [],
  withSkipping: [],
};
for (const skip of [false, true, false, true, false, true]) {
  backend.blockSkipping = skip;
  result[skip ? 'withSkipping' : 'without'].push(attentionMs());
}
for (const key of ['forward', 'backward', 'wall']) {
  const [w, wo] = [result.withSkipping, result.without].map((runs) => median(runs.map((one) => one[key])));
  result[`${key}Ratio`] = w / wo;
  console.log(
    `${key}: ${wo.toFixed(2)} ms without, ${w.toFixed(2)} ms with block skipping, ratio ${(w / wo).toFixed(2)}`,
  );
}
console.log(`losses ${result.without[0].loss.toFixed(5)} and ${result.withSkipping[0].loss.toFixed(5)}`);
mkdirSync(o.out, { recursive: true });
writeFileSync(join(o.out, 'cuda-skip.json'), `${JSON.stringify(result, null, 2)}\n`);
