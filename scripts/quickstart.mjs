/**
 * The main job on this machine, through the public commands: real text, a tokenizer trained on it, two small models
 * trained alike (stick-breaking and softmax+RoPE), both evaluated on held-out text to 16 times their training length,
 * a table and a report. Stopped half-way, it goes on where it was.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { selectBackend } from '@stickbreaking/core';
import { writeQuickstartReport } from './quickstart/report.mjs';
import { sizeFor } from './quickstart/sizes.mjs';
import { command, root, seconds } from './quickstart/steps.mjs';
import { writeAddresses } from './quickstart/text.mjs';

const models = [
  { name: 'stick-breaking', config: 'configs/quickstart-stick-breaking.yaml', run: 'quickstart/runs/stick-breaking' },
  { name: 'softmax+RoPE', config: 'configs/quickstart-softmax-rope.yaml', run: 'quickstart/runs/softmax-rope' },
];

process.chdir(root);
mkdirSync('quickstart/data', { recursive: true });
const start = performance.now();
const backend = await selectBackend(process.argv[2] ?? 'auto');
const size = sizeFor(backend.name);
console.log(`Backend ${backend.description} (${backend.reason})`);
console.log(size.said);

const text = writeAddresses('quickstart/data');
console.log(`\n1. Text: ${text.train} addresses to train on, ${text.heldOut} held out (${text.years})`);
if (!existsSync('quickstart/tokenizer.json')) {
  command('sb-tokenizer', [
    'train',
    ...['--data', 'quickstart/data/train.jsonl', '--vocab-size', String(size.vocabSize)],
    ...['--output', 'quickstart/tokenizer.json'],
  ]);
}

for (const [i, { name, config, run }] of models.entries()) {
  console.log(`\n${2 + i}. Training ${name}`);
  const resume = existsSync(`${run}/checkpoints`) ? ['--resume'] : [];
  command('sb-train', ['--config', config, '--backend', backend.name, ...resume, ...size.overrides]);
}

console.log(`\n4. Perplexity on the held-out addresses, from the training length to 16 times it`);
for (const model of models) {
  const output = `${model.run}/evaluation.json`;
  command('sb-eval', [
    ...['--checkpoint', model.run, '--backend', backend.name, '--data', 'quickstart/data/held-out.jsonl'],
    ...['--lengths', `${size.contextLength}..${16 * size.contextLength}`],
    ...['--max-tokens', String(size.evaluationTokens), '--output', output],
  ]);
  model.results = JSON.parse(readFileSync(output, 'utf8')).results;
}

console.log('\n5. How each goes on from "Our national debt "');
for (const { name, run } of models) {
  console.log(`\n${name}:`);
  const limits = ['--max-new-tokens', '60', '--seed', '1'];
  command('sb-generate', ['--checkpoint', run, '--backend', backend.name, '--prompt', 'Our national debt', ...limits]);
}

const report = writeQuickstartReport({ models, backend, size, text, elapsed: seconds(start) });
console.log(`\n${report.table}\n\nThe report with both pictures: ${report.path} (${seconds(start)} s in all)`);
