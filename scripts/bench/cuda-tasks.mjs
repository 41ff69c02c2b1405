// `npm run bench -- cuda-tasks --goldens DIR --tokenizer FILE`: tasks on one GPU with the 1B model, random weights: HellaSwag's
// 40,168 requests, MMLU's of five examples, RULER at 65,536 tokens, each with where the time goes; and whether a document
// alone has the digits that it has among others. The documents are those of golden files, repeated; the requests that
// a loop on `transformers` is to be timed with (scripts/bench/tasks/transformers_loop.py) go to --work. Options: --documents n
// --mmlu subjects,documents --texts n --attention a --config file --layers n --backend b --work folder --out folder
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { seededRandom } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { openTokenizer } from '@stickbreaking/data';
import { Evaluator } from '@stickbreaking/eval';
import { loadConfig, parseConfig } from '@stickbreaking/model';
import * as tf from '@tensorflow/tfjs-core';
import { commandGiven } from './gpu.mjs';
import { noisyModel } from './noisy_model.mjs';
import { writeHellaSwag, writeMmlu, writeRulerMaterials } from './tasks/golden_data.mjs';

const { values: o } = parseArgs({
  options: {
    goldens: { type: 'string', default: process.env.STICKBREAKING_GOLDENS ?? 'goldens' },
    tokenizer: { type: 'string', default: 'tokenizer.json' },
    documents: { type: 'string', default: '10042' },
    mmlu: { type: 'string', default: '10,50' },
    texts: { type: 'string', default: '20' },
    length: { type: 'string', default: '65536' },
    attention: { type: 'string', default: 'stick-breaking' },
    config: { type: 'string', default: 'configs/1b.yaml' },
    layers: { type: 'string' },
    backend: { type: 'string', default: 'cuda' },
    work: { type: 'string', default: 'bench-tasks' },
    out: { type: 'string', default: 'benchmarks' },
  },
});
const { description } = await selectBackend(o.backend);
console.log(description);
const config = parseConfig({
  ...loadConfig(o.config),
  attention: o.attention,
  ...(o.layers ? { numLayers: Number(o.layers) } : {}),
});
const tokenizer = openTokenizer(o.tokenizer);
const seconds = (since) => (performance.now() - since) / 1000;
const peakGiB = () => (tf.memory().peakBytesInGpu ?? 0) / 2 ** 30;
const report = {
  ...{ command: commandGiven('cuda-tasks', o.out), date: new Date().toISOString(), description },
  ...{ layers: config.numLayers, attention: o.attention, rows: [] },
};
const done = (row) => {
  report.rows.push(row);
  console.log(JSON.stringify(row));
  mkdirSync(o.out, { recursive: true });
  writeFileSync(
    join(o.out, `cuda-tasks-${o.attention.replace('+', '-')}-${config.numLayers}.json`),
    `${JSON.stringify(report, null, 2)}\n`,
  );
};

const start = performance.now();
const model = noisyModel(config, seededRandom(1, 'bench'));
done({ what: 'model made', seconds: seconds(start) });

/** Opens an evaluation and runs it; how long it took in all, and how long the model was busy. */
async function evaluated(what, options) {
  const began = performance.now();
  const evaluator = await Evaluator.open({
    tokenizer,
    maxLength: config.contextLength,
    dataDir: join(o.work, 'data'),
    ...options,
  });
  const built = seconds(began);
  let busySince;
  let tokens = 0;
  const { outcomes } = await evaluator.evaluate(model, {
    onProgress: (_, total) => {
      busySince ??= performance.now();
      tokens = total;
    },
  });
  const requests = evaluator.tasks.flatMap(({ examples }) => examples.flatMap((one) => one.requests));
  const row = {
    what,
    requests: requests.length,
    seconds: seconds(began),
    built,
    tokenized: (busySince - began) / 1000 - built,
  };
  done({ ...row, scored: seconds(busySince), tokens, peakGiB: peakGiB() });
  return { evaluator, outcomes };
}

writeHellaSwag(o.goldens, join(o.work, 'data'), Number(o.documents));
// The first pass compiles kernels and finds matmuls: it is not part of what is timed.
await evaluated('warm-up: 200 documents of HellaSwag', { tasks: 'hellaswag', limit: 200 });
const { evaluator, outcomes } = await evaluated('HellaSwag', { tasks: 'hellaswag' });
dumpRequests(evaluator, 'hellaswag-requests.jsonl');
await compareAlone(outcomes[0], 24);

const [subjects, each] = o.mmlu.split(',').map(Number);
const names = writeMmlu(o.goldens, join(o.work, 'data'), subjects, each);
await evaluated('MMLU, five examples', { tasks: names, numFewshot: 5 });

writeRulerMaterials(o.goldens, join(o.work, 'data'));
const length = Number(o.length);
const ruler = { form: 'nvidia-2024-10', lengths: [length], samples: Number(o.texts) };
await evaluated(`RULER niah_single_1 at ${length}`, { tasks: 'niah_single_1', maxLength: length, ruler });
readShare(length);

/** What the same documents score alone, one after the other. */
async function compareAlone(whole, count) {
  const alone = await Evaluator.open({
    tokenizer,
    maxLength: config.contextLength,
    dataDir: join(o.work, 'data'),
    tasks: 'hellaswag',
    limit: count,
    batchTokens: 1,
  });
  const {
    outcomes: [one],
  } = await alone.evaluate(model);
  const values = (outcome) =>
    outcome.answers
      .slice(0, count)
      .flat()
      .map(({ logLikelihood }) => logLikelihood);
  const [a, b] = [values(whole), values(one)];
  done({
    what: 'documents alone and among all',
    likelihoods: a.length,
    differ: a.filter((value, i) => value !== b[i]).length,
    largest: Math.max(...a.map((value, i) => Math.abs(value - b[i]))),
  });
}

/** Contexts and continuations, as text and as tokens, a line each, and the tokenizer: what others are to be timed with. */
function dumpRequests({ tasks }, name) {
  const lines = tasks[0].examples.flatMap(({ requests }) => {
    const before = [...tokenizer.encode(requests[0].context)];
    return requests.map(({ context, continuation }) => {
      const after = [...tokenizer.encode(context + continuation)].slice(before.length);
      return `${JSON.stringify({ context, continuation, tokens: [before, after] })}\n`;
    });
  });
  writeFileSync(join(o.work, name), lines.join(''));
  copyFileSync(o.tokenizer, join(o.work, 'tokenizer.json'));
}

/** How much of a long cache one step reads. */
function readShare(tokens) {
  const cache = model.createCache();
  const prompt = Int32Array.from({ length: tokens - 1 }, (_, i) => (i * i * 31 + i * 7) % config.vocabSize);
  for (let begin = 0; begin < prompt.length; begin += 8192)
    model.extendCache(prompt.subarray(begin, begin + 8192), { cache });
  let [read, all] = [0, 0];
  model
    .nextLogits([5], {
      cache,
      onKeysRead: (keys) => {
        const counts = keys.dataSync();
        read += counts.reduce((sum, one) => sum + one, 0);
        all += counts.length * tokens;
      },
    })
    .dispose();
  cache.dispose();
  done({ what: `share of a cache of ${tokens} that a step reads`, share: read / all, peakGiB: peakGiB() });
}
