// `npm run bench -- cuda-distance --tokenizer FILE --data FILE`: how far a run in bfloat16 on the GPU parts from one in float32 on the
// CPU (the native backend): a small model, 60 steps at a high learning rate, the largest difference of the two losses at any step,
// for several seeds. `--pytorch python3` trains the same model with and without bfloat16 autocast in PyTorch, on the same tokens.
// Options: --attention stick-breaking,softmax+rope --seeds 5 --steps 60 --rate 3e-3 --out folder
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { selectBackend } from '@stickbreaking/core';
import { openTokenizer, readDocuments } from '@stickbreaking/data';
import { train } from '@stickbreaking/train';
import { commandGiven, openGpu } from './gpu.mjs';
import { median } from './measure.mjs';

const { values: o } = parseArgs({
  options: {
    tokenizer: { type: 'string' },
    data: { type: 'string' },
    attention: { type: 'string', default: 'stick-breaking,softmax+rope' },
    seeds: { type: 'string', default: '5' },
    steps: { type: 'string', default: '60' },
    rate: { type: 'string', default: '3e-3' },
    pytorch: { type: 'string' },
    script: { type: 'string', default: join(dirname(fileURLToPath(import.meta.url)), 'pytorch_distance.py') },
    out: { type: 'string', default: 'benchmarks' },
  },
});
if (!o.tokenizer || !o.data) {
  console.error('usage: npm run bench -- cuda-distance --tokenizer FILE --data FILE [--pytorch python3]');
  process.exit(1);
}
const { driver } = await openGpu();
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
async function lossesOf(backend, attention, seed) {
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

const results = {};
for (const attention of o.attention.split(',')) {
  const distances = [];
  for (let seed = 0; seed < seeds; seed++)
    distances.push(distance(await lossesOf('cuda', attention, seed), await lossesOf('native', attention, seed)));
  results[attention] = { median: median(distances), distances };
}
if (o.pytorch) {
  const folder = mkdtempSync(join(tmpdir(), 'distance-'));
  const file = join(folder, 'tokens.bin');
  writeFileSync(file, ids);
  const settings = { ...model, steps, seeds, tokensPerStep, rate: Number(o.rate) };
  const answer = execFileSync(o.pytorch, [o.script, file, JSON.stringify(settings)], { encoding: 'utf8' });
  rmSync(folder, { recursive: true });
  const distances = JSON.parse(answer.trim().split('\n').at(-1));
  results['PyTorch, softmax+rope, autocast'] = { median: median(distances), distances };
}
for (const [name, { median: middle, distances }] of Object.entries(results))
  console.log(`${name}: median ${middle.toFixed(4)} nats (${distances.map((one) => one.toFixed(3)).join(', ')})`);
mkdirSync(o.out, { recursive: true });
const about = { command: commandGiven('cuda-distance', o.out), gpu: driver.deviceName, date: new Date().toISOString() };
writeFileSync(join(o.out, 'cuda-distance.json'), `${JSON.stringify({ ...about, steps, results }, null, 2)}\n`);
