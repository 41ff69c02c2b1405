/**
 * The main job on this machine, through the public commands: real text, a tokenizer trained on it, two small models
 * trained alike (stick-breaking and softmax+RoPE), both evaluated on held-out text to 16 times their training length,
 * a table and a report. Stopped half-way, it goes on where it was.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import { loadRunConfig } from '@stickbreaking/train';
import { writeQuickstartReport } from './quickstart/report.mjs';
import { sizeFor } from './quickstart/sizes.mjs';
import { command, root, seconds } from './quickstart/steps.mjs';
import { writeAddresses } from './quickstart/text.mjs';

const models = [
  { name: 'stick-breaking', config: 'configs/quickstart-stick-breaking.yaml' },
  { name: 'softmax+RoPE', config: 'configs/quickstart-softmax-rope.yaml' },
];
const prompt = 'The people of the United States';

process.on('SIGINT', () => {}); // the command under way gets it too, and saves; then its exit code ends this one
process.chdir(root);
mkdirSync('quickstart/data', { recursive: true });
const start = performance.now();
const backend = await selectBackend(process.argv[2] ?? 'auto');
const size = sizeFor(backend.name);
console.log(`Backend ${backend.description} (${backend.reason})`);
for (const model of models) model.run = loadRunConfig(model.config, size.overrides);
const { vocabSize, contextLength } = models[0].run.model;

const text = writeAddresses('quickstart/data');
console.log(`\n1. Text: ${text.train} addresses to train on, ${text.heldOut} held out (${text.years})`);
const tokenizer = models[0].run.tokenizer;
if (!existsSync(tokenizer)) {
  mkdirSync(dirname(tokenizer), { recursive: true });
  const data = ['--data', 'quickstart/data/train.jsonl', '--vocab-size', String(vocabSize)];
  command('sb-tokenizer', ['train', ...data, '--output', tokenizer]);
}

for (const [i, { name, config }] of models.entries()) {
  console.log(`\n${2 + i}. Training ${name}`);
  command('sb-train', ['--config', config, '--resume', '--backend', backend.name, ...size.overrides]);
}

const lengths = `${contextLength}..${16 * contextLength}`;
console.log(`\n4. Perplexity on the held-out addresses by context length, ${lengths}`);
for (const model of models) {
  const output = `${model.run.output}/evaluation.json`;
  command('sb-eval', [
    ...['--checkpoint', model.run.output, '--backend', backend.name, '--data', 'quickstart/data/held-out.jsonl'],
    ...['--lengths', lengths, '--max-tokens', String(size.evaluationTokens), '--output', output],
  ]);
  model.results = JSON.parse(readFileSync(output, 'utf8')).results;
}

console.log(`\n5. How each goes on from "${prompt}"`);
for (const model of models) {
  const from = ['--checkpoint', model.run.output, '--backend', backend.name, '--prompt', prompt];
  const limits = ['--max-new-tokens', '80', '--temperature', '0.4'];
  model.sample = command('sb-generate', [...from, ...limits], { capture: true });
}

const report = writeQuickstartReport({ models, backend, size, text, contextLength, elapsed: seconds(start) });
console.log(`\n${report.table}\n\n${report.finding}\n`);
console.log(`The report with both pictures: ${report.path} (${seconds(start)} s in all)`);
