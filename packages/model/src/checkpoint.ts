/** A model on disk: `config.json` and `model.safetensors` (or Hugging Face's shards) in one directory. */
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { explainSystemError, UserError } from '@stickbreaking/base';
import { cachedSnapshot, isHubAddress, makeDirectory, readWhole, replaceFile } from '@stickbreaking/base/node';
import type { Variable } from '@tensorflow/tfjs-core';
import { CHECKSUMS_FILE, type FileChecksum } from './checksums.js';
import type { LlamaConfig } from './config.js';
import type { SaveAsyncOptions, SaveOptions } from './host.js';
import { toHuggingFace } from './huggingface_config.js';
import { loadConfig } from './load_config.js';
import { readModelingFile } from './modeling_file.js';
import { MODELING_FILE } from './modeling_names.js';
import { readingCheckpoint } from './refused_checkpoint.js';
import {
  readSafetensors,
  type SafetensorsFile,
  type TensorToWrite,
  writeSafetensors,
  writeSafetensorsAsync,
} from './safetensors.js';
import { modelTensors, type StoredTensor } from './stored_tensors.js';

/** The file of a checkpoint that holds the weights. */
export const MODEL_FILE = 'model.safetensors';
/** The file that says which shard holds a tensor, where the weights are in several. */
export const SHARDS_FILE = `${MODEL_FILE}.index.json`;

/** What the directories of a run's checkpoints are called. */
export const STEP = /^step-\d+$/;

/** Names of a run's checkpoints; each is also a file of `checkpoints/` that holds the name of one of its directories. */
const POINTERS = ['latest', 'best'] as const;

/**
 * The checkpoint directory that a path stands for: itself, the latest checkpoint of a run directory, or one of a run's
 * checkpoints by name: `runs/a/best`, `runs/a/latest`, `runs/a/step-00000600`, with or without `checkpoints/` between. An `hf://`
 * address stands for what `fetchCheckpoint` has downloaded.
 *
 * @throws UserError if there is none
 */
export function resolveCheckpoint(path: string): string {
  if (isHubAddress(path)) return cachedSnapshot(path);
  if (existsSync(join(path, 'config.json')) || isStepOfRun(path)) return path;
  const [run, name] = runOf(path);
  const all = join(run, 'checkpoints');
  if (!existsSync(all)) {
    if (!existsSync(path)) throw new UserError(`There is no checkpoint at ${path}: no such directory.`);
    throw new UserError(`${path} is neither a checkpoint (it has no config.json) nor a run with checkpoints.`);
  }
  const pointer = join(all, name);
  if (existsSync(pointer) && statSync(pointer).isFile()) {
    const pointed = readWhole(pointer).toString().trim();
    // What is no step's name was not written by a run, and may lead anywhere.
    if (STEP.test(pointed) && existsSync(join(all, pointed))) return join(all, pointed);
  }
  if (isStepOfRun(pointer)) return pointer;
  const steps = namesIn(all).filter((entry) => STEP.test(entry));
  const newest = steps.sort((a, b) => Number(a.slice(5)) - Number(b.slice(5))).at(-1);
  if (name === 'latest' && newest) return join(all, newest);
  const names = [...POINTERS.filter((one) => existsSync(join(all, one))), ...steps];
  throw new UserError(
    names.length > 0
      ? `${run} has no checkpoint '${name}'; it has ${names.join(', ')}.`
      : `${path} is neither a checkpoint (it has no config.json) nor a run with checkpoints.`,
  );
}

/** One that has lost its config.json is still that one; who opens it says what is wrong. */
const isStepOfRun = (path: string) =>
  STEP.test(basename(path)) && basename(dirname(path)) === 'checkpoints' && existsSync(path);

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    throw explainSystemError(error, `cannot read ${directory}`);
  }
}

/** A run's directory and which of its checkpoints is meant. */
function runOf(path: string): [run: string, name: string] {
  const name = basename(path);
  const isName = (POINTERS as readonly string[]).includes(name) || STEP.test(name);
  if (!isName || (existsSync(path) && statSync(path).isDirectory())) return [path, 'latest'];
  const above = dirname(path);
  return [basename(above) === 'checkpoints' ? dirname(above) : above, name];
}

export function saveCheckpoint(
  directory: string,
  config: LlamaConfig,
  parameters: ReadonlyMap<string, Variable>,
  { eosTokenId }: SaveOptions = {},
): void {
  clear(directory);
  writeSafetensors(join(directory, MODEL_FILE), tensorsOf(parameters));
  saveConfig(directory, config, { eosTokenId });
}

export async function saveCheckpointAsync(
  directory: string,
  config: LlamaConfig,
  parameters: ReadonlyMap<string, Variable>,
  { checksum = false, eosTokenId }: SaveAsyncOptions = {},
): Promise<FileChecksum | undefined> {
  clear(directory);
  const sum = await writeSafetensorsAsync(join(directory, MODEL_FILE), tensorsOf(parameters), { checksum });
  saveConfig(directory, config, { eosTokenId });
  return sum;
}

/** Makes the directory; checksums of what lay there before hold no longer. */
function clear(directory: string): void {
  makeDirectory(directory);
  rmSync(join(directory, CHECKSUMS_FILE), { force: true });
}

const tensorsOf = (parameters: ReadonlyMap<string, Variable>): TensorToWrite[] =>
  [...parameters].map(([name, one]) => ({ name, shape: one.shape, values: () => one.dataSync() as Float32Array }));

/** Writes `config.json` and, where no class of `transformers` opens the model, the code that does. */
export function saveConfig(
  directory: string,
  config: LlamaConfig,
  { eosTokenId }: Pick<SaveOptions, 'eosTokenId'> = {},
): void {
  const json = toHuggingFace(config, { eosTokenId });
  if ('auto_map' in json) replaceFile(join(directory, MODELING_FILE), readModelingFile());
  replaceFile(join(directory, 'config.json'), `${JSON.stringify(json, null, 2)}\n`);
}

/** @throws RefusedCheckpoint if a file is missing or damaged, or the tensors do not match the configuration */
export function loadCheckpoint<Model>(
  directory: string,
  build: (config: LlamaConfig, values: (name: string, shape: readonly number[]) => Float32Array) => Model,
): Model {
  return withTensors(directory, (config, own) => build(config, (name) => own.get(name)!.read()));
}

/**
 * Looks at what a model is loaded from without loading it: the configuration, and the name, shape and place of every tensor.
 *
 * @param finite look at the numbers too, which must be finite
 * @throws RefusedCheckpoint as `LlamaModel.load` does
 */
export function checkModelFiles(directory: string, { finite = false } = {}): void {
  withTensors(directory, (_, own) => {
    if (!finite) return;
    for (const [name, tensor] of own) {
      if (!tensor.read().every(Number.isFinite)) throw new UserError(`${directory}: '${name}' is not finite.`);
    }
  });
}

function withTensors<T>(directory: string, use: (config: LlamaConfig, own: ReadonlyMap<string, StoredTensor>) => T): T {
  return readingCheckpoint(directory, () => {
    const config = loadConfig(directory);
    const files: { path: string; file: SafetensorsFile }[] = [];
    try {
      for (const path of weightFiles(directory)) files.push({ path, file: readSafetensors(path) });
      const tensors = new Map<string, StoredTensor>();
      for (const { path, file } of files) {
        for (const name of file.names)
          tensors.set(name, { path, shape: file.shape(name), read: () => file.read(name) });
      }
      return use(config, modelTensors(tensors, config, directory));
    } finally {
      for (const { file } of files) file.close();
    }
  });
}

function weightFiles(directory: string): string[] {
  const whole = join(directory, MODEL_FILE);
  if (existsSync(whole)) return [whole];
  const index = join(directory, SHARDS_FILE);
  if (!existsSync(index)) throw new UserError(`${directory} has no ${MODEL_FILE}.`);
  return shardNames(index).map((name) => join(directory, name));
}

/** The names of the shards that an index lists. */
export function shardNames(index: string): string[] {
  let shards: Record<string, string> | undefined;
  try {
    shards = JSON.parse(readWhole(index).toString()).weight_map;
  } catch (error) {
    if (error instanceof UserError) throw error; // the rest is reported below
  }
  const named = shards && Object.values(shards);
  if (!named?.every((name) => typeof name === 'string' && basename(name) === name))
    throw new UserError(`${index} is not an index of shards: expected JSON with a weight_map of file names.`);
  return [...new Set(named)];
}
