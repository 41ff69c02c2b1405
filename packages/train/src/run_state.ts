// Where a run begins: with fresh weights, with those of another run's checkpoint, or where it stopped. What a resumed
// run may change is decided here: whatever would make it another run is refused.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Tokenizer } from '@stickbreaking/data';
import { LlamaModel, loadConfig, parameterShapes, readSafetensors, writeSafetensors } from '@stickbreaking/model';
import type { Tensor, Variable } from '@tensorflow/tfjs-core';
import { readState, type TrainingState } from './checkpoint.js';
import { TrainError } from './errors.js';
import { Optimizer } from './optimizer.js';
import type { RunConfig } from './run_config.js';

export interface RunState {
  model: LlamaModel;
  optimizer: Optimizer;
  state: TrainingState;
}

/** The state of a run that has done nothing yet. */
export function begin(run: RunConfig, tokenizer: Tokenizer): RunState {
  if (run.initialCheckpoint) checkSameShapes(run, run.initialCheckpoint);
  const model = LlamaModel.create(run.model, { seed: run.seed });
  if (run.initialCheckpoint) assignAll(model.parameters, join(run.initialCheckpoint, 'model.safetensors'));
  const state: TrainingState = {
    version: 1,
    step: 0,
    updates: 0,
    tokens: 0,
    stage: 0,
    stageStep: 0,
    nonFiniteSteps: 0,
    cursor: null,
    seed: run.seed,
    tokenizerHash: tokenizer.hash,
    best: null,
    config: plain(run),
  };
  return { model, optimizer: new Optimizer(model.parameters, run.optimizer), state };
}

/** The state that a checkpoint of this run holds. Throws a TrainError when it is of another run. */
export function restore(run: RunConfig, tokenizer: Tokenizer, directory: string): RunState & { changes: string[] } {
  const state = readState(directory);
  const changes = compare(run, tokenizer, state, directory);
  checkSameShapes(run, directory);
  const model = LlamaModel.create(run.model, { seed: run.seed });
  assignAll(model.parameters, join(directory, 'model.safetensors'));
  const optimizer = new Optimizer(model.parameters, run.optimizer, state.updates);
  assignAll(optimizer.state(), join(directory, 'optimizer.safetensors'));
  return { model, optimizer, state: { ...state, config: plain(run) }, changes };
}

/** Writes model.safetensors, config.json and optimizer.safetensors. */
export async function saveTensors(directory: string, model: LlamaModel, optimizer: Optimizer): Promise<void> {
  await model.save(directory);
  await writeSafetensors(join(directory, 'optimizer.safetensors'), optimizer.state(), {});
}

/** Fills variables from a safetensors file that must hold all of them, in their shapes. */
function assignAll(variables: ReadonlyMap<string, Variable>, path: string): void {
  const tensors = readSafetensors(path) as Map<string, Tensor>;
  for (const [name, variable] of variables) {
    const tensor = tensors.get(name);
    if (!tensor || !isDeepStrictEqual(tensor.shape, variable.shape)) {
      const found = tensor ? `has shape [${tensor.shape.join(', ')}]` : 'is missing';
      throw new TrainError(`${path}: tensor ${name} ${found}; expected shape [${variable.shape.join(', ')}].`);
    }
    variable.assign(tensor);
  }
  for (const tensor of tensors.values()) tensor.dispose();
}

/** A checkpoint fits when its model has the same attention and the same parameters in the same shapes. */
function checkSameShapes(run: RunConfig, directory: string): void {
  if (!existsSync(join(directory, 'config.json'))) {
    throw new TrainError(`${directory} is no checkpoint: it has no config.json.`);
  }
  const there = loadConfig(directory);
  const [theirs, ours] = [parameterShapes(there), parameterShapes(run.model)];
  for (const name of new Set([...theirs.keys(), ...ours.keys()])) {
    const [their, our] = [theirs.get(name), ours.get(name)];
    if (isDeepStrictEqual(their, our)) continue;
    const show = (shape: readonly number[] | undefined) => (shape ? `[${shape.join(', ')}]` : 'absent');
    throw new TrainError(
      `the checkpoint ${directory} is of another model: ${name} is ${show(their)} there and ${show(our)} here.`,
    );
  }
  if (there.attention.kind !== run.model.attention.kind) {
    throw new TrainError(
      `the checkpoint ${directory} is of another model: its attention is ${there.attention.kind} and not ${run.model.attention.kind}.`,
    );
  }
}

/** Changing one of these would make a resumed run another run. */
const fixed = [/^model\b/, /^seed$/, /^initialCheckpoint$/, /^optimizer\b/];
/** These do not touch what is computed. Tokenizer and data are compared by content, not by path. */
const free = [
  /^(runDirectory|shardDirectory|tokenizer|threads|checkpoint|maxNonFiniteSteps)\b/,
  /^(stages\.\d+|validation)\.data\b/,
];

/** Lists the keys that differ and may; throws for those that may not. */
function compare(run: RunConfig, tokenizer: Tokenizer, state: TrainingState, directory: string): string[] {
  if (state.tokenizerHash !== tokenizer.hash) {
    throw new TrainError(`${directory} was trained with another tokenizer than ${tokenizer.path}; it cannot go on.`);
  }
  const changed: string[] = [];
  for (const { key, before, now } of differences(state.config, plain(run))) {
    const stage = Number(/^stages\.(\d+)\b/.exec(key)?.[1] ?? Number.NaN);
    const past = stage < state.stage || (stage === state.stage && /\.(contextLength|\w*[bB]atchTokens)$/.test(key));
    const batch = /^(batchTokens|microBatchTokens)$/.test(key);
    if (free.some((pattern) => pattern.test(key))) continue;
    const what = `${key} was ${JSON.stringify(before) ?? 'not set'} and is now ${JSON.stringify(now) ?? 'not set'}`;
    if (past || batch || fixed.some((pattern) => pattern.test(key))) {
      throw new TrainError(`cannot resume from ${directory}: ${what}; change it back or start in another runDirectory.`);
    }
    changed.push(what);
  }
  return changed;
}

interface Difference {
  key: string;
  before: unknown;
  now: unknown;
}

function differences(before: unknown, now: unknown, key = ''): Difference[] {
  if (isDeepStrictEqual(before, now)) return [];
  const isTree = (value: unknown) => typeof value === 'object' && value !== null;
  if (!isTree(before) || !isTree(now)) return [{ key, before, now }];
  const [a, b] = [before, now] as [Record<string, unknown>, Record<string, unknown>];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((name) =>
    differences(a[name], b[name], key ? `${key}.${name}` : name),
  );
}

const plain = (run: RunConfig) => JSON.parse(JSON.stringify(run)) as Record<string, unknown>;
