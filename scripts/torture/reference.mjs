// What a run that nobody stops leaves behind: every case is held to it.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { commands as dataCommands } from '@stickbreaking/data/commands';
import { commands as trainCommands } from '@stickbreaking/train/commands';
import { makeFixtures, runOf, studyOf } from '../fuzz/fixtures.mjs';
import { bundleCommands, start, warm } from './processes.mjs';

/** The run that is tortured: two stages, validations, more checkpoints than are kept. */
const tortured = (base) => {
  const run = runOf(base);
  const [first, second] = run.stages;
  return {
    ...run,
    batchTokens: 32,
    model: { ...run.model, numLayers: 1 },
    stages: [
      { ...first, steps: 4 },
      { ...second, steps: 3 },
    ],
    validation: { ...run.validation, tokens: 32 },
    samples: { prompts: ['It is'], everySteps: 3, maxNewTokens: 3 },
    checkpoints: { everySteps: 2, keepLast: 2 },
  };
};

/** The study that is tortured: two arms of a few steps, with checkpoints between. */
const torturedStudy = (base) => {
  const study = studyOf(base);
  return { ...study, training: { ...study.training, steps: 4 } };
};

export const studyArguments = (base, folder) => [
  ...['--config', join(base, 'torture-study.yaml'), `output=${join(folder, 'study')}`],
];
export const trainArguments = (base, folder) => [
  ...['--config', join(base, 'torture.yaml'), '--resume'],
  ...[`output=${join(folder, 'run')}`, `shards=${join(folder, 'tokens')}`],
];
export const tokenizerArguments = (base, folder) => [
  ...['train', '--data', join(base, 'text.jsonl'), '--vocab-size', '290'],
  ...['--output', join(folder, 'tokenizer.json')],
];

/**
 * @returns `{ run, tokens, checkpoints, tokenizer, study, changes }`: hashes of files by name, and how many changes a run
 *   makes
 */
export async function makeReference(base) {
  await bundleCommands(base);
  await makeFixtures(base, { ...dataCommands, ...trainCommands });
  writeFileSync(join(base, 'torture.yaml'), JSON.stringify(tortured(base)));
  writeFileSync(join(base, 'torture-study.yaml'), JSON.stringify(torturedStudy(base)));
  const folder = join(base, 'reference');
  warm('sb-train', trainArguments(base, join(base, 'warm')));
  mkdirSync(folder);
  warm('sb-tokenizer', tokenizerArguments(base, join(base, 'warm')));
  warm('sb-study', studyArguments(base, join(base, 'warm')));
  const changes = {};
  for (const [command, args] of [
    ['sb-train', trainArguments(base, folder)],
    ['sb-tokenizer', tokenizerArguments(base, folder)],
    ['sb-study', studyArguments(base, folder)],
  ]) {
    const count = join(base, 'count');
    const { code, stderr } = await start(command, args, undefined, { count });
    if (code !== 0) throw new Error(`${command} failed without being killed: ${stderr}`);
    changes[command] = Number(readFileSync(count, 'utf8'));
  }
  // Every checkpoint of the run, also those that it does not keep.
  const all = join(base, 'all');
  const { code, stderr } = await start('sb-train', [...trainArguments(base, all), 'checkpoints.keepLast=100']);
  if (code !== 0) throw new Error(stderr);
  const study = lookAtStudy(folder);
  return { ...lookAt(folder), study, checkpoints: hashesUnder(join(all, 'run/checkpoints')), changes };
}

/** What a study left, without what depends on the clock: the arms' results, metrics and checkpoints, and the report's. */
export function lookAtStudy(folder) {
  const study = join(folder, 'study');
  const isHashed = (name) => /\/checkpoints\/|\.svg$/.test(name);
  const found = Object.fromEntries(Object.entries(hashesUnder(study)).filter(([name]) => isHashed(name)));
  for (const arm of existsSync(join(study, 'arms')) ? readdirSync(join(study, 'arms')) : []) {
    const result = join(study, 'arms', arm, 'result.json');
    if (existsSync(result)) found[`arms/${arm}/result.json`] = resultIn(result);
    found[`arms/${arm}/run/metrics.jsonl`] = metricsIn(join(study, 'arms', arm, 'run/metrics.jsonl')).join('\n');
  }
  const report = join(study, 'results/results.json');
  if (existsSync(report)) {
    const { missing, rows, arms } = JSON.parse(readFileSync(report, 'utf8'));
    found['results/results.json'] = JSON.stringify({
      missing,
      rows,
      arms: arms.map(({ id, result }) => ({ id, result })),
    });
  }
  return found;
}

function resultIn(path) {
  const { id, settings, result } = JSON.parse(readFileSync(path, 'utf8'));
  return JSON.stringify({ id, settings, result });
}

/** What a case's folder holds: hashes by name, and the metrics without what depends on the clock. */
export function lookAt(folder) {
  const run = hashesUnder(join(folder, 'run'));
  delete run['train.log'];
  delete run['metrics.jsonl'];
  const tokens = hashesUnder(join(folder, 'tokens'));
  // Of tokens that are whole nobody takes the lock again: the file that a killed process left holds nobody up.
  for (const name of Object.keys(tokens)) if (/\/\.lock[^/]*$/.test(name)) delete tokens[name];
  return {
    run,
    metrics: metricsOf(folder),
    tokens,
    tokenizer: hashesUnder(folder)['tokenizer.json'],
  };
}

export const metricsOf = (folder) => metricsIn(join(folder, 'run/metrics.jsonl'));

/** The lines of metrics.jsonl; half a line at its end is none. */
function metricsIn(path) {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => {
    const { tokensPerSecond, flopsPerSecond, memoryBytes, time, elapsedSeconds, ...rest } = JSON.parse(line);
    return JSON.stringify(rest);
  });
}

export function hashesUnder(folder) {
  if (!existsSync(folder)) return {};
  const files = readdirSync(folder, { withFileTypes: true, recursive: true }).filter((entry) => entry.isFile());
  const hash = (path) => createHash('sha256').update(readFileSync(path)).digest('hex');
  return Object.fromEntries(
    files
      .map(({ parentPath, name }) => join(parentPath, name))
      .sort()
      .map((path) => [path.slice(folder.length + 1), hash(path)]),
  );
}
