// `npm run bench -- cuda-distance --tokenizer FILE --data FILE`: how far a run in bfloat16 on the GPU parts from one in float32 on the
// CPU (the native backend): a small model, 60 steps at a high learning rate, the largest difference of the two losses at any step,
// for several seeds. `--pytorch python3` trains the same models, from the same first weights and on the same tokens, in PyTorch with
// and without bfloat16 autocast.
// Options: --attention stick-breaking,softmax+rope --residual fp24,bfloat16 --seeds 5 --first-seed 0 --steps 60 --rate 3e-3 --out folder
// --data FILE --data FILE …: one after another. Each seed reads text of its own.
// --join folder,folder: no runs, but what earlier calls with other seeds or arms wrote there, together; of one folder, printed again
// --float32 FILE: the losses in float32, read from that file, and the text's tokens from FILE.tokens; what is not there is computed,
// no GPU needed, and written

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { openTokenizer, readDocuments } from '@stickbreaking/data';
import { LlamaModel, parseConfig } from '@stickbreaking/model';
import { train } from '@stickbreaking/train';
import { commandGiven, openGpu } from './gpu.mjs';

const { values: o } = parseArgs({
  options: {
    tokenizer: { type: 'string' },
    data: { type: 'string', multiple: true },
    attention: { type: 'string', default: 'stick-breaking,softmax+rope' },
    residual: { type: 'string', default: 'fp24' },
    seeds: { type: 'string', default: '5' },
    'first-seed': { type: 'string', default: '0' },
    join: { type: 'string' },
    steps: { type: 'string', default: '60' },
    rate: { type: 'string', default: '3e-3' },
    float32: { type: 'string' },
    pytorch: { type: 'string' },
    script: { type: 'string', default: join(dirname(fileURLToPath(import.meta.url)), 'pytorch_distance.py') },
    out: { type: 'string', default: 'benchmarks' },
  },
});
if (o.join) {
  const parts = o.join.split(',').map((folder) => JSON.parse(readFileSync(join(folder, 'cuda-distance.json'), 'utf8')));
  const names = [...new Set(parts.flatMap(({ results }) => Object.keys(results)))];
  const results = Object.fromEntries(
    names.map((name) => [name, parts.flatMap((one) => one.results[name]?.distances ?? [])]),
  );
  const { gpu, date, steps } = parts.at(-1);
  finish({ command: parts.flatMap(({ command }) => command), gpu, date, steps }, results);
  process.exit(0);
}
if (!o.tokenizer || !(o.data || o.float32)) {
  console.error(
    'usage: npm run bench -- cuda-distance --tokenizer FILE --data FILE [--pytorch python3] [--float32 FILE]',
  );
  process.exit(1);
}
const onlyFloat32 = o.float32 !== undefined && !existsSync(o.float32);
const driver = onlyFloat32 ? undefined : (await openGpu()).driver;
const [steps, tokensPerStep, contextLength] = [Number(o.steps), 2048, 256];
const [first, seeds] = [Number(o['first-seed']), Number(o.seeds)];
const tokenizer = openTokenizer(o.tokenizer);
const sizes = { hiddenSize: 128, intermediateSize: 352, numLayers: 4, numHeads: 4 };
const model = { ...sizes, vocabSize: tokenizer.vocabSize, contextLength };
const ids = await tokens();

/** Of the first seed to the last, and one more that is the last target. */
async function tokens() {
  const [from, to] = [first * steps * tokensPerStep, (first + seeds) * steps * tokensPerStep + 1];
  const kept = `${o.float32}.tokens`;
  if (o.float32 && existsSync(kept)) {
    const all = new Int32Array(new Uint8Array(readFileSync(kept)).buffer);
    if (all.length === to - from) return all;
    return giveUp(`${kept} has ${all.length} tokens, not the ${to - from} of ${seeds} seeds with ${steps} steps`);
  }
  const ids = new Int32Array(to - from);
  let read = 0;
  for await (const { text } of readDocuments({ path: o.data })) {
    const some = tokenizer.encode(text);
    if (read + some.length > from)
      ids.set(some.slice(Math.max(0, from - read), Math.max(0, to - read)), Math.max(0, read - from));
    read += some.length;
    if (read >= to) break;
  }
  if (read < to) giveUp(`${o.data} has ${read} tokens; ${to} are needed: add text, or take fewer seeds or steps`);
  if (o.float32) writeFileSync(kept, ids);
  return ids;
}

function giveUp(why) {
  console.error(`cuda-distance: ${why}`);
  process.exit(1);
}

const cuSeqlens = Int32Array.from({ length: tokensPerStep / contextLength + 1 }, (_, i) => i * contextLength);
async function lossesOf(backend, attention, seed, residualType) {
  await selectBackend(backend);
  let at = (seed - first) * steps * tokensPerStep;
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
const inEverySeed = async (backend, attention, residualType) => {
  const losses = [];
  for (let seed = first; seed < first + seeds; seed++)
    losses.push(await lossesOf(backend, attention, seed, residualType));
  return losses;
};
if (onlyFloat32) {
  const losses = {};
  for (const attention of attentions) losses[attention] = await inEverySeed('native', attention);
  writeFileSync(o.float32, JSON.stringify({ steps, rate: Number(o.rate), first, losses }));
  console.log(`losses in float32 written to ${o.float32}`);
  process.exit(0);
}
const known = o.float32 ? JSON.parse(readFileSync(o.float32, 'utf8')) : undefined;
if (known && (known.steps !== steps || known.rate !== Number(o.rate) || known.first !== first)) {
  const [has, wants] = [known, { steps, rate: o.rate, first }].map(
    (one) => `${one.steps} steps at ${one.rate} from seed ${one.first} on`,
  );
  giveUp(`${o.float32} has ${has}, not ${wants}`);
}

const results = {};
const float32 = {};
for (const attention of attentions) {
  float32[attention] = known?.losses[attention] ?? (await inEverySeed('native', attention));
  for (const residualType of o.residual.split(',')) {
    const ours = await inEverySeed('cuda', attention, residualType);
    results[`${attention}, residual stream in ${residualType}`] = ours.map((losses, i) =>
      distance(losses, float32[attention][i]),
    );
  }
}
if (o.pytorch) {
  const folder = mkdtempSync(join(tmpdir(), 'distance-'));
  const [file, weights] = ['tokens.bin', 'weights.bin'].map((name) => join(folder, name));
  writeFileSync(file, ids);
  await selectBackend('native');
  const config = parseConfig({ ...model, attention: 'softmax+rope' });
  const names = [];
  for (let seed = first; seed < first + seeds; seed++) {
    const made = LlamaModel.create(config, { seed });
    for (const [name, variable] of made.parameters) {
      if (seed === first) names.push(name);
      writeFileSync(weights, variable.dataSync(), { flag: 'a' });
    }
    made.dispose();
  }
  const settings = { ...model, steps, seeds, tokensPerStep, rate: Number(o.rate), names };
  const answer = execFileSync(o.pytorch, [o.script, file, weights, JSON.stringify(settings)], { encoding: 'utf8' });
  rmSync(folder, { recursive: true });
  const losses = JSON.parse(answer.trim().split('\n').at(-1));
  results['PyTorch, softmax+rope, autocast'] = losses.map(({ float32, autocast }) => distance(float32, autocast));
  // How far two float32 programs part that compute the same.
  const ours = float32['softmax+rope'];
  if (ours)
    results['PyTorch, softmax+rope, float32, from ours'] = losses.map(({ float32 }, i) => distance(float32, ours[i]));
}
const command = commandGiven('cuda-distance', o.out);
finish({ command, gpu: driver.deviceName, date: new Date().toISOString(), steps }, results);

/** Prints the medians of what each seed gave and writes both. */
function finish(about, all) {
  const withMedians = Object.entries(all).map(([name, distances]) => [name, { median: median(distances), distances }]);
  for (const [name, { median: middle, distances }] of withMedians)
    console.log(`${name}: median ${middle.toFixed(4)} nats (${distances.map((one) => one.toFixed(3)).join(', ')})`);
  mkdirSync(o.out, { recursive: true });
  const text = JSON.stringify({ ...about, results: Object.fromEntries(withMedians) }, null, 2);
  writeFileSync(join(o.out, 'cuda-distance.json'), `${text}\n`);
}
