/** Where results go: the harness's names of files in a folder, or a file that is named. */
import { existsSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { UserError } from '@stickbreaking/base';
import { makeDirectory, replaceFile } from '@stickbreaking/base/node';
import type { TaskOutcome } from '../runner/run.js';
import { sampleLines } from './samples.js';

/** Where an evaluation writes. */
export interface OutputPlaces {
  folder: string;
  /** The results, where the user named a file. */
  results: string | undefined;
  /** Answers as they come. */
  answers: string;
  /** The folder that is locked: of evaluations into files of one folder, each has its own. */
  lock: string;
}

/**
 * @param output a folder, in which the model has one of its own; or a .json file, which holds the results
 * @throws UserError if the folder cannot be made
 */
export function outputPlaces(output: string, checkpoint: string): OutputPlaces {
  if (output.endsWith('.json')) {
    const file = resolve(output);
    if (existsSync(file) && statSync(file).isDirectory())
      throw new UserError(`cannot write ${output}: it is a directory.`);
    makeDirectory(dirname(file));
    const stem = file.slice(0, -'.json'.length);
    return { folder: dirname(file), results: file, answers: `${stem}.answers.jsonl`, lock: `${stem}.running` };
  }
  const folder = join(resolve(output), checkpoint.replace(/[/\\:]+$/, '').replaceAll(/[<>:/|\\?*[\]]+/g, '__'));
  makeDirectory(folder);
  return { folder, results: undefined, answers: join(folder, 'answers.jsonl'), lock: folder };
}

/** Writes the results, and the samples of tasks; each file whole or not at all. */
export function writeResults(
  { folder, results }: OutputPlaces,
  json: Record<string, unknown>,
  samplesOf: readonly TaskOutcome[],
  date: Date,
): void {
  const time = date.toISOString().replace('Z', '').replaceAll(':', '-');
  const stem = results === undefined ? '' : `${basename(results, '.json')}_`;
  for (const outcome of samplesOf) {
    const lines = sampleLines(outcome);
    replaceFile(
      join(folder, `${stem}samples_${outcome.task.name}_${time}.jsonl`),
      lines.map((line) => `${line}\n`).join(''),
    );
  }
  replaceFile(results ?? join(folder, `results_${time}.json`), `${JSON.stringify(json, null, 2)}\n`);
}
