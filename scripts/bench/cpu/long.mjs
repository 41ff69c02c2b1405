// One long document through a trained model, by length: seconds and peak memory with and without block skipping, each
// in a process of its own, on real text.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UserError } from '@stickbreaking/base';
import { parseLengths } from '@stickbreaking/eval';
import { defaultText } from '@stickbreaking/study';
import { loadRunConfig } from '@stickbreaking/train';

const program = fileURLToPath(new URL('long_document.mjs', import.meta.url));
const quickstart = 'configs/quickstart-stick-breaking.yaml';

function command(name, args) {
  const { status } = spawnSync('npx', ['--no-install', name, ...args], { stdio: 'inherit' });
  if (status !== 0) throw new UserError(`${name} failed; its message is above.`);
}

/** The quickstart's stick-breaking model and its held-out text, made where they are not there yet. */
async function quickstartModel() {
  const run = loadRunConfig(quickstart, []);
  await defaultText('quickstart/data');
  if (!existsSync(run.tokenizer)) {
    mkdirSync(dirname(run.tokenizer), { recursive: true });
    const size = ['--vocab-size', String(run.model.vocabSize)];
    command('sb-tokenizer', ['train', '--data', 'quickstart/data/train.jsonl', ...size, '--output', run.tokenizer]);
  }
  command('sb-train', ['--config', quickstart, '--resume', '--backend', 'native']);
  return { checkpoint: run.output, data: 'quickstart/data/*.jsonl' };
}

export async function benchLongContexts({ checkpoint, data, lengths }) {
  console.log('\nLong contexts: one document through a trained model, seconds and peak memory');
  if (!checkpoint !== !data) throw new UserError('--checkpoint and --data go together.');
  const model = checkpoint ? { checkpoint, data } : await quickstartModel();
  const results = [];
  for (const length of parseLengths(lengths)) {
    const row = { length };
    for (const [name, skipping] of [
      ['skipping', 'on'],
      ['whole', 'off'],
    ]) {
      const { status, stdout, stderr } = spawnSync(
        process.execPath,
        [program, model.checkpoint, model.data, String(length), skipping],
        { encoding: 'utf8' },
      );
      if (status !== 0) throw new UserError(stderr.trim().split('\n').pop());
      row[name] = JSON.parse(stdout);
    }
    results.push(row);
    const said = ({ seconds, peakBytes, ownBytes }) =>
      `${seconds.toFixed(2)} s, ${(peakBytes / 1e6).toFixed(0)} MB (${(ownBytes / 1e6).toFixed(0)} MB over the start)`;
    const share = `${(row.skipping.visitedShare * 100).toFixed(0)} % of key blocks visited`;
    console.log(
      `  ${String(length).padStart(6)}  with skipping ${said(row.skipping)}, ${share}; without ${said(row.whole)}; ${(row.whole.seconds / row.skipping.seconds).toFixed(2)}×`,
    );
  }
  return { ...model, results };
}
