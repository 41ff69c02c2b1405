// `npm run bench -- cuda-distance --tokenizer FILE --data FILE`: how far a run in bfloat16 on the GPU parts from one in float32 on the
// CPU (the native backend): a small model, 60 steps at a high learning rate, the largest difference of the two losses at any step,
// for several seeds. `--pytorch python3` trains the same models, from the same first weights and on the same tokens, in PyTorch with
// and without bfloat16 autocast.
// Options: --attention stick-breaking,softmax+rope --residual default,fp24 --seeds 5 --steps 60 --rate 3e-3 --out folder
// --float32 FILE: the losses in float32, read from that file; where it is not there, they are computed, no GPU needed, and written to it
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { selectBackend } from '@stickbreaking/core';
import { openTokenizer, readDocuments } from '@stickbreaking/data';
import { LlamaModel, parseConfig } from '@stickbreaking/model';
import { train } from '@stickbreaking/train';
import { commandGiven, openGpu } from './gpu.mjs';
import { median } from './measure.mjs';

const { values: o } = parseArgs({
  options: {
    tokenizer: { type: 'string' },
    data: { type: 'string' },
    attention: { type: 'string', default: 'stick-breaking,softmax+rope' },
    residual: { type: 'string', default: 'default' },
    seeds: { type: 'string', default: '5' },
    steps: { type: 'string', default: '60' },
    rate: { type: 'string', default: '3e-3' },
    float32: { type: 'string' },
    pytorch: { type: 'string' },
    script: { type: 'string', default: join(dirname(fileURLToPath(import.meta.url)), 'pytorch_distance.py') },
    out: { type: 'string', default: 'benchmarks' },
  },
});
if (!o.tokenizer || !o.data) {
  console.error(
    'usage: npm run bench -- cuda-distance --tokenizer FILE --data FILE [--pytorch python3] [--float32 FILE]',
  );
  process.exit(1);
}
const onlyFloat32 = o.float32 !== undefined && !existsSync(o.float32);
const driver = onlyFloat32 ? undefined : (await openGpu()).driver;
const [steps, seeds, tokensPerStep, contextLength] = [Number(o.steps), Number(o.seeds), 2048, 256];
const tokenizer = openTokenizer(o.tokenizer);
const sizes = { hiddenSize: 128, intermediateSize: 352, numLayers: 4, numHeads: 4 };
const model = { ...sizes, vocabSize: tokenizer.vocabSize, contextLength };
const needed = seeds * steps * tokensPerStep + 1;
let ids = [];
for await (const { text } of readDocuments({ path: o.data })) {
  ids = ids.concat([...tokenizer.encode(text.slice(0, 6 * needed))]);
  if (ids.length >= needed) break;
}
ids = Int32Array.from(ids.slice(0, needed));

const cuSeqlens = Int32Array.from({ length: tokensPerStep / contextLength + 1 }, (_, i) => i * contextLength);
async function lossesOf(backend, attention, seed, residualType) {
  await selectBackend(backend);
  let at = seed * steps * tokensPerStep;
  const next = () => {
    const [tokens, targets] = [0, 1].map((shift) => ids.slice(at + shift, at + shift + tokensPerStep));
    at += tokensPerStep;
    return { tokens, targets, cuSeqlens };
  };
  const losses = [];
  const { model: trained } = await train({
    model: { ...model, attention },
    seed,
    residualType,
    stages: [
      {
        ...{ steps, contextLength, batchTokens: tokensPerStep, microBatchTokens: tokensPerStep },
        schedule: { kind: 'constant', peak: Number(o.rate) },
        data: { open: () => ({ next, cursor: () => at }) },
      },
    ],
    hooks: { onStep: ({ loss }) => void losses.push(loss) },
  });
  trained.dispose();
  return losses;
}
const distance = (a, b) => Math.max(...a.map((loss, i) => Math.abs(loss - b[i])));

const attentions = o.attention.split(',');
const inEverySeed = async (backend, attention, residualType = 'default') => {
  const losses = [];
  for (let seed = 0; seed < seeds; seed++) losses.push(await lossesOf(backend, attention, seed, residualType));
  return losses;
};
if (onlyFloat32) {
  const losses = {};
  for (const attention of attentions) losses[attention] = await inEverySeed('native', attention);
  writeFileSync(o.float32, JSON.stringify({ steps, rate: Number(o.rate), losses }));
  console.log(`losses in float32 written to ${o.float32}`);
  process.exit(0);
}
const known = o.float32 ? JSON.parse(readFileSync(o.float32, 'utf8')) : undefined;
if (known && (known.steps !== steps || known.rate !== Number(o.rate)))
  throw Object.assign(new Error(`${o.float32} has ${known.steps} steps at ${known.rate}, not ${steps} at ${o.rate}`), {
    code: 1,
  });

const results = {};
const float32 = {};
for (const attention of attentions) {
  float32[attention] = known?.losses[attention] ?? (await inEverySeed('native', attention));
  for (const residualType of o.residual.split(',')) {
    const ours = await inEverySeed('cuda', attention, residualType);
    const distances = ours.map((losses, seed) => distance(losses, float32[attention][seed]));
    const name = residualType === 'default' ? attention : `${attention}, residual stream in ${residualType}`;
    results[name] = { median: median(distances), distances };
  }
}
if (o.pytorch) {
  const folder = mkdtempSync(join(tmpdir(), 'distance-'));
  const [file, weights] = ['tokens.bin', 'weights.bin'].map((name) => join(folder, name));
  writeFileSync(file, ids);
  await selectBackend('native');
  const config = parseConfig({ ...model, attention: 'softmax+rope' });
  const names = [];
  for (let seed = 0; seed < seeds; seed++) {
    const made = LlamaModel.create(config, { seed });
    for (const [name, variable] of made.parameters) {
      if (seed === 0) names.push(name);
      writeFileSync(weights, variable.dataSync(), { flag: 'a' });
    }
    made.dispose();
  }
  const settings = { ...model, steps, seeds, tokensPerStep, rate: Number(o.rate), names };
  const answer = execFileSync(o.pytorch, [o.script, file, weights, JSON.stringify(settings)], { encoding: 'utf8' });
  rmSync(folder, { recursive: true });
  const losses = JSON.parse(answer.trim().split('\n').at(-1));
  const distances = losses.map(({ float32, autocast }) => distance(float32, autocast));
  results['PyTorch, softmax+rope, autocast'] = { median: median(distances), distances };
  // How far two float32 programs part that compute the same.
  const ours = float32['softmax+rope'];
  if (ours) {
    const apart = losses.map(({ float32 }, seed) => distance(float32, ours[seed]));
    results['PyTorch, softmax+rope, float32, from ours'] = { median: median(apart), distances: apart };
  }
}
for (const [name, { median: middle, distances }] of Object.entries(results))
  console.log(`${name}: median ${middle.toFixed(4)} nats (${distances.map((one) => one.toFixed(3)).join(', ')})`);
mkdirSync(o.out, { recursive: true });
const about = { command: commandGiven('cuda-distance', o.out), gpu: driver.deviceName, date: new Date().toISOString() };
writeFileSync(join(o.out, 'cuda-distance.json'), `${JSON.stringify({ ...about, steps, results }, null, 2)}\n`);
