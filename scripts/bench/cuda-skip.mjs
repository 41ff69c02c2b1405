// What block skipping saves on a trained model and real text: a forward and backward of the whole model over one document
// of --length tokens, with and without it, the attention kernels timed apart.
// Usage: node scripts/bench/cuda-skip.mjs --checkpoint DIR --data FILE [--length 16384] [--out folder]
// --by-layer: the attention alone, layer by layer, by blocks and by levels; --levels 10,40/8, repeated, says of which settings.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { median } from '@stickbreaking/base';
import { openTokenizer, readDocuments } from '@stickbreaking/data';
import { LlamaModel, resolveCheckpoint } from '@stickbreaking/model';
import * as tf from '@tensorflow/tfjs-core';
import { commandGiven, openGpu, timeLaunches } from './gpu.mjs';
import { byLayer } from './skip/by_layer.mjs';

const { values: o } = parseArgs({
  options: {
    checkpoint: { type: 'string' },
    data: { type: 'string' },
    length: { type: 'string', default: '16384' },
    'by-layer': { type: 'boolean', default: false },
    levels: { type: 'string', multiple: true, default: ['10,40/8', '12,48/8', '12,32/8'] },
    out: { type: 'string', default: 'benchmarks' },
  },
});
if (!o.checkpoint || !o.data) {
  console.error(
    'usage: npm run bench -- cuda-skip --checkpoint DIR --data FILE [--length 16384] [--by-layer] [--levels 10,40/8] [--out folder]',
  );
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

if (o['by-layer']) {
  const measured = byLayer({ backend, model, tokens, settings: o.levels });
  const command = commandGiven('cuda-skip', o.out);
  const result = { command, gpu: driver.deviceName, date: new Date().toISOString(), length: tokens.length, measured };
  mkdirSync(o.out, { recursive: true });
  writeFileSync(join(o.out, 'cuda-skip-by-layer.json'), `${JSON.stringify(result, null, 2)}\n`);
  process.exit(0);
}

/** Other work of the GPU before kernels are timed, longer than the host needs to launch a forward and backward. */
const BUSY_MS = 40;
const gradients = () => model.gradients(batch, { scale: 1 / tokens.length });
const freed = ({ loss, gradients }) => tf.dispose([loss, ...gradients.values()]);
function attentionMs() {
  const first = gradients();
  const value = first.loss.dataSync()[0];
  driver.synchronize();
  freed(first);
  const end = timeLaunches(driver, (name) => name.startsWith('flash_'), BUSY_MS);
  const second = gradients();
  const { launches, ahead } = end();
  freed(second);
  const totals = { forward: 0, backward: 0, loss: value, ahead };
  for (const { name, ms } of launches) totals[name === 'flash_forward' ? 'forward' : 'backward'] += ms;
  return totals;
}
/**
 * The share of the tiles of 64 queries and 64 keys that blocks of queries visit before their sticks are exhausted, where each goes as far
 * as its farthest row: the forward runs once more on each layer's q and k, and keeps where each block's last row stopped.
 */
function tilesKept() {
  backend.blockSkipping = true;
  let [kept, all] = [0, 0];
  const observe = ({ q, k, scale }) => {
    const [rows, heads] = q.shape;
    const attrs = { cuSeqlens: batch.cuSeqlens, cuSeqlensK: batch.cuSeqlens, scale, attendCurrent: false };
    const outputs = tf.engine().runKernel('StickBreakingAttention', { q, k, v: k }, attrs);
    // flash.cuh, struct Saved: two numbers a row and head, then the last tile that any row of a block reached.
    const stops = new Float32Array(heads * Math.ceil(rows / 64));
    const address = backend.address(outputs[2]) + 4 * 2 * rows * heads;
    driver.call('cuMemcpyDtoHAsync_v2', stops, address, stops.byteLength, driver.stream);
    driver.synchronize();
    tf.dispose(outputs);
    stops.forEach((stop, i) => {
      const block = i % Math.ceil(rows / 64);
      kept += block + 1 - stop;
      all += block + 1;
    });
  };
  model.forward(tokens, { cuSeqlens: batch.cuSeqlens, observe }).dispose();
  return kept / all;
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
for (const key of ['forward', 'backward']) {
  const [w, wo] = [result.withSkipping, result.without].map((runs) => median(runs.map((one) => one[key])));
  result[`${key}Ratio`] = w / wo;
  console.log(
    `${key}: ${wo.toFixed(2)} ms without, ${w.toFixed(2)} ms with block skipping, ratio ${(w / wo).toFixed(2)}`,
  );
}
if (![...result.without, ...result.withSkipping].every(({ ahead }) => ahead))
  console.log('the GPU waited for the host: events around kernels count that too');
result.tilesKept = tilesKept();
console.log(`tiles kept: ${(100 * result.tilesKept).toFixed(1)} %`);
console.log(`losses ${result.without[0].loss.toFixed(5)} and ${result.withSkipping[0].loss.toFixed(5)}`);
mkdirSync(o.out, { recursive: true });
writeFileSync(join(o.out, 'cuda-skip.json'), `${JSON.stringify(result, null, 2)}\n`);
