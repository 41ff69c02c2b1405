// Evaluation on tasks: task files, data sets, saved answers, and prompts by the file.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { backend, tasksOf } from '../fixtures.mjs';
import { mutateArguments } from '../mutate.mjs';
import { jsonText, mutatedBytes, mutatedTree, yamlText } from './shared.mjs';

export const modelArguments = (base) => ['--checkpoint', join(base, 'run'), '--backend', backend];
const samplesIn = (base) =>
  join(
    base,
    readdirSync(base).find((name) => name.includes('samples_sciq')),
  );

/** Shares are between 0 and 1, and every figure is a number. */
export function figuresFault({ stdout }) {
  const { results } = JSON.parse(stdout);
  for (const [task, figures] of Object.entries(results)) {
    for (const [name, value] of Object.entries(figures)) {
      if (typeof value === 'number' && !Number.isFinite(value)) return `${task}: ${name} is ${value}`;
      const isTold = stdout.includes(`make ${name.split(',')[0]} larger than any number`);
      if (value === null && !isTold) return `${task}: ${name} is null`;
      if (/^(acc|acc_norm|exact_match),/.test(name) && !(value >= 0 && value <= 1))
        return `${task}: ${name} is ${value}`;
    }
  }
  return undefined;
}

function scoresFault({ stdout }) {
  const figures = JSON.parse(stdout).flatMap((one) => one.figures);
  return figures.every(({ value }) => Number.isFinite(value)) ? undefined : stdout;
}

/** Counts, differences and probabilities are what such things can be. */
function comparisonFault({ stdout }) {
  const { common, onlyFirst, onlySecond, samePrompts, largestDifference, figures } = JSON.parse(stdout);
  if (![common, onlyFirst, onlySecond, samePrompts].every((count) => Number.isInteger(count) && count >= 0))
    return stdout;
  if (largestDifference && !(largestDifference.value >= 0)) return stdout;
  const isRight = ({ first, second, pValue = 1 }) =>
    Number.isFinite(first) && Number.isFinite(second) && pValue >= 0 && pValue <= 1;
  return figures.every(isRight) ? undefined : stdout;
}

/** JSON lines, one of which is changed as a tree or all of them as bytes. */
export function mutatedLines(text, choose, mutations) {
  if (choose.below(2) === 0) return mutatedBytes(Buffer.from(text), mutations);
  const lines = text.trimEnd().split('\n');
  const at = choose.below(lines.length);
  return lines.map((line, i) => `${i === at ? jsonText(mutatedTree(JSON.parse(line), mutations)) : line}\n`).join('');
}

export const tasks = {
  /** A task file, its data set, or the settings of its run. */
  async 'task-file'({ base, folder, choose, mutations }) {
    const all = tasksOf(base);
    const task = all[choose.pick(Object.keys(all))];
    const rest = [
      '--limit',
      '3',
      '--gen-kwargs',
      'temperature=0.5,do_sample=true,top_k=3',
      '--samples',
      '{"choice":[0,2]}',
    ];
    const file = join(folder, 'task.yaml');
    const rows = join(folder, 'rows.jsonl');
    const what = choose.pick(['tree', 'tree', 'tree', 'bytes', 'rows', 'rows', 'options']);
    const own = { ...task, dataset_kwargs: { data_files: { test: rows } } };
    writeFileSync(rows, readFileSync(join(base, 'rows.jsonl')));
    if (what === 'rows') writeFileSync(rows, mutatedLines(readFileSync(rows, 'utf8'), choose, mutations));
    if (what === 'tree') writeFileSync(file, yamlText(mutatedTree(own, mutations)) ?? '');
    else if (what === 'bytes') writeFileSync(file, mutatedBytes(Buffer.from(yamlText(own)), mutations));
    else writeFileSync(file, yamlText(own));
    const options = choose.pick([
      rest.slice(0, 2),
      rest.slice(2, 4),
      task === all.choice ? rest.slice(4) : [],
      rest.slice(0, 4),
    ]);
    const settings = [...options, '--seed', '3', '--fewshot-seed', '5', '--num-fewshot', '1', '--batch-tokens', '64'];
    const given = what === 'options' ? mutations.reduce((at, seed) => mutateArguments(at, seed), settings) : options;
    // A folder of its own, as what is there already goes on.
    const args = [...modelArguments(base), '--tasks', file, '--json', ...given];
    return { command: 'sb-eval', args, accepted: figuresFault };
  },

  /** Saved samples, scored again or compared. */
  async samples({ base, folder, choose, mutations }) {
    const file = join(folder, 'samples_sciq_2026-01-01T00-00-00.jsonl');
    const whole = readFileSync(samplesIn(base), 'utf8');
    writeFileSync(file, mutatedLines(whole, choose, mutations));
    const isScored = choose.below(2) === 0;
    const pair = choose.pick([
      [file, samplesIn(base)],
      [samplesIn(base), file],
    ]);
    const args = isScored ? ['score', file, '--json'] : ['compare', ...pair, '--json'];
    const accepted = isScored ? scoresFault : comparisonFault;
    return { command: 'sb-eval', args, accepted };
  },

  /** Answers that an evaluation left, gone on with. */
  async answers({ base, folder, choose, mutations, copy }) {
    const name = 'sciq.answers.jsonl';
    if (!existsSync(join(base, name))) throw new Error(`there is no ${name}`);
    copy(name);
    const file = join(folder, name);
    writeFileSync(file, mutatedLines(readFileSync(file, 'utf8'), choose, mutations));
    const args = [
      ...modelArguments(base),
      '--tasks',
      'sciq',
      '--data-dir',
      join(base, 'data'),
      '--output',
      join(folder, 'sciq.json'),
    ];
    return { command: 'sb-eval', args: [...args, '--json'], accepted: figuresFault };
  },

  /** A file of prompts, and the continuations that there are already. */
  async prompts({ base, folder, choose, mutations }) {
    const prompts = ['It is so', { prompt: 'The "state" – of', id: 'a', seed: 4 }, { prompt: '', id: [1] }, 'ü\n🙂'];
    const text = prompts.map((one) => `${JSON.stringify(one)}\n`).join('');
    const [file, output] = [join(folder, 'prompts.jsonl'), join(folder, 'out.jsonl')];
    const records = prompts.map((one, index) => ({
      index,
      prompt: one.prompt ?? one,
      text: ' x',
      tokens: 1,
      finish: 'length',
    }));
    const done = records
      .slice(0, 2)
      .map((one) => `${JSON.stringify(one)}\n`)
      .join('');
    const isOutput = choose.below(3) === 0;
    writeFileSync(file, isOutput ? text : mutatedLines(text, choose, mutations));
    if (isOutput) writeFileSync(output, mutatedLines(done, choose, mutations));
    const accepted = () => {
      const lines = readFileSync(file, 'utf8')
        .split(/\r?\n/)
        .filter((line) => line.trim() !== '');
      const found = readFileSync(output, 'utf8')
        .trimEnd()
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line));
      const wanted = lines.map((line) => JSON.parse(line)).map((one) => one.prompt ?? one);
      if (found.length !== wanted.length) return `${found.length} continuations of ${wanted.length} prompts`;
      const missing = wanted.findIndex((prompt, i) => !found.some((one) => one.index === i && one.prompt === prompt));
      return missing < 0 ? undefined : `prompt ${missing} is not among the continuations as it was given`;
    };
    const args = [
      ...modelArguments(base),
      '--prompts',
      file,
      '--output',
      output,
      '--max-new-tokens',
      '2',
      '--batch',
      '3',
      '--seed',
      '1',
    ];
    return { command: 'sb-generate', args, accepted };
  },
};
