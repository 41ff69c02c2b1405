// One measurement of `npm run bench -- train-pairs`, in a process of its own: the packages of a folder train a quickstart model on
// random tokens, and the medians of a step's seconds of wall and processor time are printed as JSON.
// Usage: node run.mjs FOLDER CONFIG STEPS (CONFIG: a file of the folder's configs/, without its ending)
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { median } from '@stickbreaking/base';

const [, , folder, name, steps] = process.argv;
const load = (part) => import(pathToFileURL(join(resolve(folder), `packages/${part}/dist/index.js`)).href);
const { selectBackend } = await load('core');
const { LlamaModel } = await load('model');
const { batchGradients, loadRunConfig, Optimizer, OptimizerSchema } = await load('train');
const { model: config, batchTokens, microBatchTokens } = loadRunConfig(join(folder, 'configs', `${name}.yaml`), []);
await selectBackend('native');
const model = LlamaModel.create(config);
const optimizer = new Optimizer(model.parameters, OptimizerSchema.parse({}));

let state = 1;
const random = () => {
  state = (state * 1103515245 + 12345) % 2147483648;
  return state / 2147483648;
};
const { vocabSize, contextLength } = config;
const batches = Array.from({ length: batchTokens / microBatchTokens }, () => {
  const tokens = Int32Array.from({ length: microBatchTokens }, () => Math.floor(random() * vocabSize));
  const cuSeqlens = Int32Array.from({ length: microBatchTokens / contextLength + 1 }, (_, i) => i * contextLength);
  return { tokens, targets: tokens, cuSeqlens };
});

const WARM_UP = 2;
const [wall, processor] = [[], []];
let last;
for (let i = 0; i < Number(steps) + WARM_UP; i++) {
  const [spent, start] = [process.cpuUsage(), performance.now()];
  const { loss, gradients, gradientNorm } = await batchGradients(model, batches);
  optimizer.update(gradients, gradientNorm, 1e-3);
  for (const gradient of gradients.values()) gradient.dispose();
  const { user, system } = process.cpuUsage(spent);
  last = loss;
  if (i < WARM_UP) continue;
  wall.push((performance.now() - start) / 1e3);
  processor.push((user + system) / 1e6);
}
console.log(JSON.stringify({ tokens: batchTokens, wall: median(wall), processor: median(processor), loss: last }));
process.exit(0);
