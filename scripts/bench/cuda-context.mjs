// `npm run bench -- cuda-context --gpus n`: a layer of the 1B model over one long sequence that n GPUs share
// (`parallel.context`), forward and backward, beside the same on one of them; and whether both give the same loss and gradients.
// They share it by heads, or with --by ring by tokens (`parallel.contextBy`).
// A layer's time is the difference of models with more and fewer of them. Options: --length 65536 --layers 2,4
// --attention stick-breaking|softmax+rope --config configs/1b.yaml --steps n --out folder
import { mkdirSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { median, seededRandom } from '@stickbreaking/base';
import { globalNorm } from '@stickbreaking/core';
import { loadConfig, ownTokens, parseConfig } from '@stickbreaking/model';
import * as tf from '@tensorflow/tfjs-core';
import { byKernel, commandGiven, joinGpus, openGpu, timeLaunches } from './gpu.mjs';
import { noisyModel } from './noisy_model.mjs';

const { values: o } = parseArgs({
  options: {
    gpus: { type: 'string', default: '4' },
    length: { type: 'string', default: '65536' },
    layers: { type: 'string', default: '2,4' },
    attention: { type: 'string', default: 'stick-breaking' },
    by: { type: 'string', default: 'heads' },
    config: { type: 'string', default: 'configs/1b.yaml' },
    steps: { type: 'string', default: '4' },
    out: { type: 'string', default: 'benchmarks' },
  },
});
const world = await joinGpus(o.gpus, { context: Number(o.gpus), contextBy: o.by });
const { collective } = world;
const { rank, size } = collective;
const backend = await openGpu(rank === 0);
const { driver } = backend;
const length = Number(o.length);
const [few, many] = o.layers.split(',').map(Number);
const base = { ...loadConfig(o.config), attention: o.attention, contextLength: length, mup: undefined };
const random = seededRandom(1, 'bench');
const ids = Int32Array.from({ length: length + 1 }, () => random.integer(base.vocabSize));
const batch = { tokens: ids.subarray(0, -1), targets: ids.subarray(1), cuSeqlens: [0, length] };

/** Milliseconds of a forward and backward, its loss, and its gradients' sum over the processes that share it. */
async function measured(layers, shared) {
  const model = noisyModel(parseConfig({ ...base, numLayers: layers }), seededRandom(2, 'weights'));
  const { sequence } = collective;
  const own = shared ? ownTokens(batch, sequence) : batch;
  const options = { scale: 1 / length, ...(shared ? { sequence } : {}) };
  const times = [];
  let result;
  for (let i = -2; i < Number(o.steps); i++) {
    if (shared) await collective.sumNumbers([0]);
    const [start, end] = [driver.createEvent(true), driver.createEvent(true)];
    driver.recordEvent(start);
    const { loss, gradients } = model.gradients(own, options);
    driver.recordEvent(end);
    const ms = driver.elapsed(start, end);
    const [slowest] = shared ? [Math.max(...(await world.gpus.exchange([ms])).flat())] : [ms];
    if (i >= 0) times.push(slowest);
    if (i === 0) {
      const all = [...gradients.values()];
      const [total] = shared ? await collective.sumNumbers([loss.dataSync()[0]]) : [loss.dataSync()[0]];
      const sums = shared ? await collective.sumTensors(all) : all;
      result = { loss: total, norm: globalNorm(sums).dataSync()[0] };
    }
    tf.dispose([loss, ...gradients.values()]);
  }
  const ended = timeLaunches(driver);
  tf.dispose(model.gradients(own, options));
  const kernels = byKernel(ended().launches);
  const { peak } = driver.memory();
  model.dispose();
  return { ms: median(times), peakGiB: peak / 2 ** 30, kernels: Object.fromEntries(kernels.slice(0, 12)), ...result };
}

const shared = [await measured(few, true), await measured(many, true)];
driver.resetPeak();
// The others wait: their GPUs rest, as one that works alone would have it.
const alone = rank === 0 ? [await measured(few, false), await measured(many, false)] : undefined;
await collective.sumNumbers([0]);
if (alone) {
  const layer = ([a, b]) => (b.ms - a.ms) / (many - few);
  const ratio = layer(shared) / (layer(alone) / size);
  const differences = shared.map(({ loss, norm }, i) => ({
    loss: Math.abs(loss - alone[i].loss),
    norm: Math.abs(norm / alone[i].norm - 1),
  }));
  mkdirSync(o.out, { recursive: true });
  const variant = [
    o.attention.replace('+', '-'),
    ...(o.by === 'heads' ? [] : [o.by]),
    ...(backend.blockSkipping ? [] : ['no-skipping']),
    `${size}-gpus`,
  ];
  const file = `${o.out}/cuda-context-${variant.join('-')}.json`;
  const report = {
    command: commandGiven('cuda-context', o.out),
    gpu: driver.deviceName,
    gpus: size,
    date: new Date().toISOString(),
    ...{ length, attention: o.attention, by: o.by, blockSkipping: backend.blockSkipping },
    ...{ layerMs: layer(shared), layerMsOnOne: layer(alone), ofAShareOfOne: ratio, differences, shared, alone },
  };
  writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
  console.log(
    `${o.attention} by ${o.by}, ${length} tokens: a layer ${layer(shared).toFixed(2)} ms on ${size} GPUs, ${layer(alone).toFixed(2)} on one: ` +
      `${ratio.toFixed(3)} of a share; losses differ by ${Math.max(...differences.map(({ loss }) => loss)).toExponential(1)}, ` +
      `gradients' norms by ${Math.max(...differences.map(({ norm }) => norm)).toExponential(1)} of them`,
  );
}
await world.close();
