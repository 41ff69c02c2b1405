// `npm run bench -- cuda-generate`: generation by the 1B model on one GPU, random weights: tokens/s alone and in batches, the
// rate at which prompts are read beside the training forward's, what a step and its kernels take, and that rows of a batch are
// those of one. Options: --attention stick-breaking|softmax+rope|{"kind":…} --config configs/1b.yaml --layers n --out folder
//   --quick (a prompt alone, and 64) --contexts 1024,8192,… (the cost of a token by context, and nothing else)
import { mkdirSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { median, seededRandom } from '@stickbreaking/base';
import { loadConfig, parseConfig } from '@stickbreaking/model';
import { measureContexts } from './generate/contexts.mjs';
import { byKernel, commandGiven, openGpu, timeLaunches } from './gpu.mjs';
import { noisyModel } from './noisy_model.mjs';

const { values: o } = parseArgs({
  options: {
    attention: { type: 'string', default: 'stick-breaking' },
    config: { type: 'string', default: 'configs/1b.yaml' },
    layers: { type: 'string' },
    quick: { type: 'boolean', default: false },
    contexts: { type: 'string' },
    out: { type: 'string', default: 'benchmarks' },
  },
});
const backend = await openGpu();
const { driver } = backend;
const config = parseConfig({
  ...loadConfig(o.config),
  attention: o.attention.startsWith('{') ? JSON.parse(o.attention) : o.attention,
  ...(o.layers ? { numLayers: Number(o.layers) } : {}),
});
const model = noisyModel(config, seededRandom(1, 'bench'));
const promptOf = (i, length) =>
  Int32Array.from({ length }, (_, at) => (at * at * 31 + at * 7 + i * 1013 + 1) % config.vocabSize);

/** Tokens of each row, and when each token came; `begun` and `ended`: the last row's first token, and the first row's last. */
async function generate(requests, batchSize) {
  const rows = requests.map(() => []);
  const at = [];
  let [begun, ended] = [0, undefined];
  const start = performance.now();
  for await (const event of model.generateBatch(requests, { batchSize })) {
    if (!('token' in event)) {
      ended ??= at.length - 1;
      continue;
    }
    if (rows[event.index].length === 0) begun = at.length;
    rows[event.index].push(event.token);
    at.push(performance.now() - start);
  }
  return { rows, at, begun, ended };
}

async function rate(batch, prompt, tokens, options) {
  const requests = Array.from({ length: batch }, (_, i) => ({
    ...{ prompt: promptOf(i, prompt), maxNewTokens: tokens, seed: i },
    ...options,
  }));
  await generate(requests, batch);
  const { at, begun, ended } = await generate(requests, batch);
  // While all rows run: from where all prompts have been read, and some steps more, to the end of the first.
  const from = begun + 4 * batch;
  return {
    ...{ batch, prompt, tokens, options: JSON.stringify(options) },
    tokensPerSecond: ((ended - from) * 1000) / (at[ended] - at[from]),
    prefillMs: at[begun],
  };
}

async function timed(run, times = 5) {
  const all = [];
  for (let i = 0; i < times; i++) {
    driver.synchronize();
    const start = performance.now();
    await run();
    driver.synchronize();
    all.push(performance.now() - start);
  }
  return median(all.slice(1));
}

/** What a recorded step takes where nothing waits for its tokens, and its kernels, launched one by one. */
function profile(batch, context) {
  const caches = Array.from({ length: batch }, () => model.createCache());
  const prompt = promptOf(0, context);
  model.reserveCache(caches.map(() => context + 40));
  for (const cache of caches) model.nextLogits(prompt, { cache }).dispose();
  const cuSeqlens = Int32Array.from({ length: batch + 1 }, (_, i) => i);
  const run = (options) =>
    model.nextLogits(new Int32Array(batch).fill(5), { cuSeqlens, cache: caches, ...options }).dispose();
  for (let i = 0; i < 4; i++) run({});
  driver.synchronize();
  const [before, after] = [driver.createEvent(true), driver.createEvent(true)];
  driver.recordEvent(before);
  for (let i = 0; i < 16; i++) run({});
  driver.recordEvent(after);
  report.steps.push({ batch, context, stepMs: driver.elapsed(before, after) / 16 });
  // Counting what is read keeps the step from being recorded.
  const step = () => run({ onKeysRead: () => {} });
  step();
  const end = timeLaunches(driver);
  step();
  const { launches } = end();
  for (const cache of caches) cache.dispose();
  return byKernel(launches).map(([name, { time, launches }]) => ({ batch, context, name, ms: time, launches }));
}

const report = {
  ...{ command: commandGiven('cuda-generate', o.out), layers: config.numLayers, attention: o.attention },
  ...{ steps: [], kernels: [], rates: [] },
};
/** After every part, so that what was measured is there if the next part fails. */
function save() {
  mkdirSync(o.out, { recursive: true });
  const kind = o.contexts ? 'cuda-contexts' : 'cuda-generate';
  const name = `${kind}-${o.attention.replaceAll(/[^\w]+/g, '-').replaceAll(/^-|-$/g, '')}-${config.numLayers}.json`;
  writeFileSync(`${o.out}/${name}`, `${JSON.stringify(report, undefined, 2)}\n`);
}

if (o.contexts) {
  const contexts = o.contexts.split(',').map(Number);
  report.contexts = await measureContexts(model, promptOf(0, Math.max(...contexts) + 64), contexts);
  console.table(report.contexts);
  save();
  process.exit(0);
}

// Rows of a batch against the same alone.
const mixed = Array.from({ length: 40 }, (_, i) => ({
  ...{ prompt: promptOf(i, 1 + ((i * 37) % 900)), maxNewTokens: 24, seed: i },
  ...(i % 2 ? { temperature: 0 } : { topK: 40 }),
}));
const together = await generate(mixed, 64);
const few = await generate(mixed, 5);
let apart = 0;
for (let i = 0; i < mixed.length; i += 5) {
  const alone = await generate([mixed[i]], 1);
  if (JSON.stringify(alone.rows[0]) !== JSON.stringify(together.rows[i])) apart++;
}
const differing = together.rows.filter((row, i) => JSON.stringify(row) !== JSON.stringify(few.rows[i])).length;
console.log(`rows that differ: ${differing} of 40 between batches of 64 and 5, ${apart} of 8 from the same alone`);
report.rowsThatDiffer = differing + apart;

// Logits of a step against those of the full forward.
{
  const prompt = promptOf(3, 700);
  const cache = model.createCache();
  model.nextLogits(prompt.slice(0, 690), { cache }).dispose();
  let worst = 0;
  let agree = 0;
  let scale = 0;
  for (let at = 690; at < 700; at++) {
    const step = model.nextLogits(prompt.slice(at, at + 1), { cache });
    const whole = model.lastLogits(prompt.slice(0, at + 1));
    const [a, b] = [step.dataSync(), whole.dataSync()];
    for (let i = 0; i < a.length; i++) worst = Math.max(worst, Math.abs(a[i] - b[i]));
    scale = Math.max(
      scale,
      b.reduce((most, x) => Math.max(most, Math.abs(x)), 0),
    );
    if (a.indexOf(a.reduce((m, x) => Math.max(m, x))) === b.indexOf(b.reduce((m, x) => Math.max(m, x)))) agree++;
    step.dispose();
    whole.dispose();
  }
  cache.dispose();
  console.log(
    `step against full forward: logits differ by ${worst.toFixed(4)} of ${scale.toFixed(2)}; most likely alike ${agree}/10`,
  );
  report.logitDifference = worst / scale;
}

save();

for (const [batch, context] of [
  [1, 512],
  [64, 1000],
]) {
  report.kernels.push(...profile(batch, context));
  save();
}
console.table(report.kernels.filter(({ ms }) => ms > 0.1));
console.table(report.steps);

const runs = o.quick
  ? [
      [1, 512, 128],
      [64, 940, 80],
    ]
  : [
      [1, 512, 128],
      [1, 4096, 64],
      [16, 512, 64],
      [64, 940, 80],
    ];
for (const [batch, prompt, tokens] of runs) {
  for (const options of batch === 1 ? [{ temperature: 0 }, { topK: 50, temperature: 0.8 }] : [{ temperature: 0 }]) {
    report.rates.push(await rate(batch, prompt, tokens, options));
    save();
  }
}
if (!o.quick) {
  const record = backend.recordDecodeStep;
  backend.recordDecodeStep = undefined;
  report.rates.push({ ...(await rate(1, 512, 64, { temperature: 0 })), options: 'greedy, launched one by one' });
  backend.recordDecodeStep = record;
}
console.table(report.rates);

const length = 4096;
const prompt = promptOf(1, length);
const targets = Int32Array.from(prompt, () => -1);
targets[length - 1] = 1;
report.prefillMs = await timed(async () => {
  const cache = model.createCache();
  const logits = model.nextLogits(prompt, { cache });
  await logits.data();
  logits.dispose();
  cache.dispose();
});
report.forwardMs = await timed(async () => {
  const losses = model.tokenLosses({ tokens: prompt, targets, cuSeqlens: [0, length] });
  await losses.data();
  losses.dispose();
});
console.log(
  `prompt of ${length}: ${report.prefillMs.toFixed(1)} ms; forward with losses ${report.forwardMs.toFixed(1)} ms`,
);
save();
