// Generation: tokens/s of one prompt and of batches, the rate at which prompts are read, and the cost of a token by context.
// Usage: node scripts/bench/generate.mjs [--config FILE] [--backend auto] [--batch 1,16] [--prompt 64] [--tokens 128]
//   [--baseline FOLDER] [--turns 3]                      rates, beside those of another checkout's build
//   [--contexts 1024,4096 --checkpoint DIR[,DIR] --data FILE]   ms a token by context, of trained models
//   [--agree 10000 --checkpoint DIR --data FILE]          sequences sampled alone and in batches: how many differ
//   [--name generate]                                     benchmarks/NAME.json

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { openTokenizer, readDocuments } from '@stickbreaking/data';
import { LlamaModel, loadConfig, resolveCheckpoint } from '@stickbreaking/model';
import { measureAgreement } from './generate/agreement.mjs';
import { measureContexts } from './generate/contexts.mjs';
import { machine, writeReport } from './measure.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { values: o } = parseArgs({
  options: {
    config: { type: 'string', default: 'configs/quickstart-stick-breaking.yaml' },
    backend: { type: 'string', default: 'auto' },
    batch: { type: 'string', default: '1,16' },
    prompt: { type: 'string', default: '64' },
    tokens: { type: 'string', default: '128' },
    baseline: { type: 'string' },
    turns: { type: 'string', default: '3' },
    contexts: { type: 'string' },
    agree: { type: 'string' },
    checkpoint: { type: 'string' },
    data: { type: 'string' },
    name: { type: 'string', default: 'generate' },
  },
});
const numbers = (text) => text.split(',').map(Number);
const { description } = await selectBackend(o.backend);
const report = { ...machine(description), settings: o };

if (o.agree) {
  const directory = resolveCheckpoint(o.checkpoint);
  const tokens = await tokensOf(join(directory, 'tokenizer.json'), 200_000);
  const model = LlamaModel.load(directory);
  const settings = { count: Number(o.agree), newTokens: Number(o.tokens), batches: numbers(o.batch) };
  report.agreement = await measureAgreement(model, tokens, settings);
  model.dispose();
  console.log(JSON.stringify(report.agreement));
} else if (o.contexts) {
  report.contexts = {};
  for (const checkpoint of o.checkpoint.split(',')) {
    const directory = resolveCheckpoint(checkpoint);
    const contexts = numbers(o.contexts);
    const tokens = await tokensOf(join(directory, 'tokenizer.json'), Math.max(...contexts) + 64);
    const model = LlamaModel.load(directory);
    const rows = await measureContexts(model, tokens, contexts);
    model.dispose();
    report.contexts[checkpoint] = rows;
    console.log(`\n${checkpoint}`);
    console.table(rows);
  }
} else {
  const config = loadConfig(o.config);
  const folders = { ours: root, ...(o.baseline ? { baseline: o.baseline } : {}) };
  report.rates = [];
  for (const batch of numbers(o.batch)) {
    const settings = { config, backend: o.backend, batch, prompt: Number(o.prompt), tokens: Number(o.tokens) };
    const results = Object.fromEntries(Object.keys(folders).map((name) => [name, []]));
    for (let turn = 0; turn < Number(o.turns); turn++) {
      for (const [name, folder] of Object.entries(folders)) {
        const args = [join(root, 'scripts/bench/generate/run.mjs'), folder, JSON.stringify(settings)];
        results[name].push(JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }).trim()));
      }
    }
    for (const [name, runs] of Object.entries(results)) {
      const of = (key) => median(runs.map((run) => run[key]));
      report.rates.push({
        ...{ name, batch, prompt: settings.prompt, prefillMs: of('prefillMs') },
        ...{ tokensPerSecond: of('tokensPerSecond'), wholeTokensPerSecond: of('wholeTokensPerSecond') },
      });
    }
  }
  console.table(report.rates);
}
writeReport(o.name, report);

/** Tokens of a text, over again where it is too short. */
async function tokensOf(tokenizerFile, count) {
  const tokenizer = openTokenizer(tokenizerFile);
  const ids = [];
  for await (const { text } of readDocuments({ path: o.data })) {
    ids.push(...tokenizer.encode(text));
    if (ids.length >= count) break;
  }
  while (ids.length < count) ids.push(...ids.slice(0, count - ids.length));
  return ids.slice(0, count);
}
