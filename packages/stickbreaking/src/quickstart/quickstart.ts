/**
 * The main job on the machine at hand, through the public commands: real text, a tokenizer trained on it, two small
 * models trained alike (stick-breaking and softmax+RoPE), both evaluated on held-out text to 16 times their training
 * length, a table and a report. Stopped half-way, it goes on where it was.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { makeDirectory } from '@stickbreaking/base/node';
import { selectBackend } from '@stickbreaking/core';
import { defaultText } from '@stickbreaking/study';
import { loadRunConfig } from '@stickbreaking/train';
import { type Trained, writeQuickstartReport } from './report.js';
import { runCommand, secondsSince } from './run_command.js';
import { sizeFor } from './sizes.js';

/** Options of `quickstart`. */
export interface QuickstartOptions {
  /** As `selectBackend` takes it; default `auto`. */
  backend?: string;
  /** `key.path=value`, for both run files. */
  overrides?: readonly string[];
  /** Says what it does on standard error instead of standard output. */
  quiet?: boolean;
}

/** What a quickstart found. */
export interface QuickstartResult {
  /** the HTML file */
  report: string;
  backend: string;
  /** of this time; what was there already was not done again */
  seconds: number;
  models: { name: string; run: string; results: Trained['results']; sample: string }[];
}

const models = [
  { name: 'stick-breaking', config: 'quickstart-stick-breaking' },
  { name: 'softmax+RoPE', config: 'quickstart-softmax-rope' },
];
const prompt = 'The people of the United States';
const temperature = 0.4;
const directory = 'quickstart';

/**
 * Runs the quickstart in `quickstart/` of the working directory, and says what it does.
 *
 * @throws UserError where one of the commands fails or is stopped, with its exit code
 */
export async function quickstart({
  backend: wanted = 'auto',
  overrides = [],
  quiet = false,
}: QuickstartOptions = {}): Promise<QuickstartResult> {
  const output = quiet ? process.stderr : process.stdout;
  const say = (line: string) => output.write(`${line}\n`);
  const start = performance.now();
  const backend = await selectBackend(wanted);
  const size = sizeFor(backend.name);
  say(`Backend ${backend.description} (${backend.reason})`);

  const text = await defaultText(join(directory, 'data'));
  const [train, heldOut] = [text.train, text.heldOut].map((file) => readFileSync(file, 'utf8').split('\n').length - 1);
  say(`\n1. Text: ${train} State of the Union addresses to train on, ${heldOut} held out`);
  const where = [`stages.0.data.0.path=${text.train}`, `validation.data.0.path=${text.heldOut}`];
  const isElsewhere = dirname(text.train) !== join(directory, 'data');
  const changes = [...(isElsewhere ? where : []), ...size.overrides, ...overrides];
  const runs = models.map(({ name, config }) => ({ name, config, run: loadRunConfig(config, changes) }));
  const { model, tokenizer } = runs[0]!.run;
  if (typeof tokenizer === 'string' && !existsSync(tokenizer)) {
    makeDirectory(dirname(tokenizer));
    const options = ['--data', text.train, '--vocab-size', String(model.vocabSize), '--output', tokenizer];
    await runCommand('sb-tokenizer', ['train', ...options], { output });
  }

  const on = ['--backend', backend.name];
  for (const [i, { name, config }] of runs.entries()) {
    say(`\n${2 + i}. Training ${name}`);
    await runCommand('sb-train', ['--config', config, '--resume', ...on, ...changes], {
      output,
      own: ['--no-advise-no-verify'],
    });
  }

  const lengths = `${model.contextLength}..${16 * model.contextLength}`;
  say(`\n4. Perplexity on the held-out addresses by context length, ${lengths}`);
  const trained: Trained[] = [];
  for (const { name, run } of runs) {
    const file = join(run.output, 'evaluation.json');
    const limits = ['--lengths', lengths, '--max-tokens', String(size.evaluationTokens)];
    const from = ['--checkpoint', run.output, ...on, '--data', text.heldOut];
    await runCommand('sb-eval', [...from, ...limits, '--output', file], { output });
    const { results } = JSON.parse(readFileSync(file, 'utf8')) as Pick<Trained, 'results'>;
    trained.push({ name, run, results, sample: '' });
  }

  say(`\n5. How each goes on from "${prompt}"`);
  for (const one of trained) {
    const from = ['--checkpoint', one.run.output, ...on, '--prompt', prompt];
    const limits = ['--max-new-tokens', '80', '--temperature', String(temperature)];
    one.sample = await runCommand('sb-generate', [...from, ...limits], { capture: true, output });
  }

  const elapsed = Number(secondsSince(start));
  const report = await writeQuickstartReport(directory, {
    models: trained,
    prompt,
    temperature,
    backend,
    note: size.note,
    elapsed,
  });
  say(`\n${report.table}\n\n${report.finding}\n`);
  say(`The report with both pictures: ${report.path} (${secondsSince(start)} s in all)`);
  return {
    ...{ report: report.path, backend: backend.description, seconds: Number(secondsSince(start)) },
    models: trained.map(({ name, run, results, sample }) => ({
      name,
      run: run.output,
      results,
      sample: sample.trim(),
    })),
  };
}
