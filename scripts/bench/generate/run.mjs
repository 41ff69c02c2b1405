// One measurement of `npm run bench -- generate`, in a process of its own: the packages of a folder continue prompts of one
// length, and the rate is printed as JSON. A folder of before there were batches continues them one after another.
// Usage: node run.mjs FOLDER '{"config" or "checkpoint", "backend", "batch", "prompt", "tokens"}'
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const [, , folder, settings] = process.argv;
const { config, checkpoint, backend, batch, prompt, tokens } = JSON.parse(settings);
const load = (name) => import(pathToFileURL(join(resolve(folder), `packages/${name}/dist/index.js`)).href);
const { selectBackend } = await load('core');
const { LlamaModel, resolveCheckpoint } = await load('model');
const { description } = await selectBackend(backend);
const model = checkpoint ? LlamaModel.load(resolveCheckpoint(checkpoint)) : LlamaModel.create(config);
const { vocabSize } = model.config;
const promptOf = (i) => Array.from({ length: prompt }, (_, at) => (at * at * 31 + at * 7 + i * 101 + 1) % vocabSize);
const options = { maxNewTokens: tokens, temperature: 0.8, topP: 0.95 };

/** When each token came, in ms from the start. */
async function times() {
  const start = performance.now();
  const at = [];
  if (model.generateBatch) {
    const requests = Array.from({ length: batch }, (_, i) => ({ ...options, prompt: promptOf(i), seed: i }));
    for await (const event of model.generateBatch(requests, { batchSize: batch })) {
      if ('token' in event) at.push(performance.now() - start);
    }
    return at;
  }
  for (let i = 0; i < batch; i++) {
    for await (const _ of model.generate(promptOf(i), { ...options, seed: i })) at.push(performance.now() - start);
  }
  return at;
}

await times(); // warms up: compiled kernels, recorded steps
const at = await times();
// The rate once all prompts are read; one after another, the prompts' share is the first token's time of each.
const first = model.generateBatch ? at[batch - 1] : at[0];
const read = model.generateBatch ? first : first * batch;
const seconds = (at.at(-1) - read) / 1000;
console.log(
  JSON.stringify({
    ...{ description, tokens: at.length, prefillMs: read, tokensPerSecond: (at.length - batch) / seconds },
    wholeTokensPerSecond: at.length / (at.at(-1) / 1000),
  }),
);
model.dispose();
