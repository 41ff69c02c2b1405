/** A model on disk: `config.json` and `model.safetensors` (or Hugging Face's shards) in one directory. */
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { EXIT, explainSystemError, shown, UserError } from '@stickbreaking/base';
import { cachedSnapshot, isHubAddress, makeDirectory, readWhole, replaceFile } from '@stickbreaking/base/node';
import type { Variable } from '@tensorflow/tfjs-core';
import { CHECKSUMS_FILE, type FileChecksum } from './checksums.js';
import type { LlamaConfig } from './config.js';
import { checkFiniteNumbers } from './finite.js';
import type { LoadAsyncOptions, SaveAsyncOptions, SaveOptions } from './host.js';
import { toHuggingFace } from './huggingface_config.js';
import { loadConfig } from './load_config.js';
import { readModelingFile } from './modeling_file.js';
import { MODELING_FILE } from './modeling_names.js';
import { parameterShapes } from './parameters.js';
import type { ReadEachOptions } from './read_tensors.js';
import { readingCheckpoint, readingCheckpointAsync } from './refused_checkpoint.js';
import {
  readSafetensors,
  type SafetensorsFile,
  type TensorToWrite,
  writeSafetensors,
  writeSafetensorsAsync,
} from './safetensors.js';
import { STEP, stepNames } from './step_name.js';
import { modelTensors, type StoredTensor } from './stored_tensors.js';
import { type Algorithm, newSum, type Sum, sumMadeLater } from './sum.js';
import { sumThreads } from './sum_threads.js';
import { ThreadedSum } from './threaded_sum.js';

/** The file of a checkpoint that holds the weights. */
export const MODEL_FILE = 'model.safetensors';
/** The file that says which shard holds a tensor, where the weights are in several. */
export const SHARDS_FILE = `${MODEL_FILE}.index.json`;

/** Names of a run's checkpoints; each is also a file of `checkpoints/` that holds the name of one of its directories. */
const POINTERS = ['latest', 'best'] as const;

/**
 * The checkpoint directory that a path stands for: itself, the latest checkpoint of a run directory, or one of a run's
 * checkpoints by name: `runs/a/best`, `runs/a/latest`, `runs/a/step-00000600`, with or without `checkpoints/` between. An `hf://`
 * address stands for what `fetchCheckpoint` has downloaded.
 *
 * @throws UserError if there is none, or the file that should name it does not
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
  const pointed = stepPointedTo(all, name);
  if (pointed !== undefined) return pointed;
  if (isStepOfRun(join(all, name))) return join(all, name);
  const steps = stepNames(namesIn(all));
  const newest = steps.at(-1);
  if (name === 'latest' && newest) return join(all, newest);
  if (newest === undefined && !existsSync(join(all, name)))
    throw new UserError(`${path} is neither a checkpoint (it has no config.json) nor a run with checkpoints.`);
  if (isPointer(name) && existsSync(join(all, name))) {
    const has = newest === undefined ? 'has no checkpoint' : `has ${steps.join(', ')}`;
    const fault = `${join(all, name)} ${faultOfPointer(join(all, name))}; the run ${has}.`;
    throw new UserError(fault, { exitCode: EXIT.refused });
  }
  const names = [...POINTERS.filter((one) => stepPointedTo(all, one) !== undefined), ...steps];
  throw new UserError(`${run} has no checkpoint '${name}'; it has ${names.join(', ')}.`);
}

/** The checkpoint that a pointer names, if there is such a one. */
function stepPointedTo(all: string, pointer: string): string | undefined {
  const path = join(all, pointer);
  if (!isPointer(pointer) || !statSync(path, { throwIfNoEntry: false })?.isFile()) return undefined;
  const pointed = readWhole(path).toString().trim();
  // What is no step's name was not written by a run, and may lead anywhere.
  return STEP.test(pointed) && existsSync(join(all, pointed)) ? join(all, pointed) : undefined;
}

/** Why a pointer that is there leads to no checkpoint. */
function faultOfPointer(path: string): string {
  if (!statSync(path).isFile()) return 'is no file, and one that names a checkpoint was expected';
  const pointed = readWhole(path).toString().trim();
  return STEP.test(pointed)
    ? `names ${pointed}, which is not there any more`
    : `is damaged: it names '${shown(pointed)}', which is no checkpoint`;
}

const isPointer = (name: string) => (POINTERS as readonly string[]).includes(name);

/** One that has lost its config.json is still that one; who opens it says what is wrong. */
function isStepOfRun(path: string): boolean {
  const whole = resolve(path); // as `.` it has no name
  return STEP.test(basename(whole)) && basename(dirname(whole)) === 'checkpoints' && existsSync(path);
}

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
  const above = dirname(path);
  const isBelow = basename(above) === 'checkpoints';
  const isName = isPointer(name) || STEP.test(name);
  if (!isName || (!isBelow && existsSync(path) && statSync(path).isDirectory())) return [path, 'latest'];
  return [isBelow ? dirname(above) : above, name];
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
      checkFiniteNumbers(tensor.read(), directory, `the weights '${name}'`);
    }
  });
}

/**
 * The same, while the system's threads read: each tensor is handed over as it comes, in the order of the files.
 *
 * @returns the configuration
 */
export async function loadCheckpointAsync(
  directory: string,
  take: (name: string, values: Float32Array, shape: readonly number[]) => void,
  { summed }: LoadAsyncOptions = {},
): Promise<LlamaConfig> {
  return await readingCheckpointAsync(directory, async () => {
    const { config, files, own } = openTensors(directory);
    try {
      for (const { path, file } of files) {
        const taken = takenFrom(path, config, own);
        const handOver = (stored: string, values: Float32Array) => {
          for (const [name, { shape, part }] of taken.get(stored)!)
            take(name, part ? values.slice(...part) : values, shape);
        };
        await readSummed(path, file, handOver, { only: (stored) => taken.has(stored), summed });
      }
      return config;
    } finally {
      for (const { file } of files) file.close();
    }
  });
}

/** Of a file, by the names of its tensors: the parameters that are in them. */
function takenFrom(path: string, config: LlamaConfig, own: ReadonlyMap<string, StoredTensor>) {
  const taken = new Map<string, [name: string, tensor: StoredTensor][]>();
  for (const name of parameterShapes(config).keys()) {
    const tensor = own.get(name)!;
    if (tensor.path !== path) continue;
    const others = taken.get(tensor.stored);
    if (others) others.push([name, tensor]);
    else taken.set(tensor.stored, [[name, tensor]]);
  }
  return taken;
}

/** Reads tensors of a file, as `readEach` does, and notes the file's sum. */
export async function readSummed(
  path: string,
  file: SafetensorsFile,
  take: (name: string, values: Float32Array) => void,
  { only, summed }: Pick<ReadEachOptions, 'only'> & LoadAsyncOptions = {},
): Promise<void> {
  const sum = summed && sumFor(summed.algorithm, statSync(path).size);
  await file.readEach(take, { ...(only ? { only } : {}), sum });
  if (sum) summed.sums.set(basename(path), sum.end());
}

/** Of less, threads that sum have not begun before all is read. */
const THREADED_BYTES = 2 ** 28;

function sumFor(algorithm: Algorithm, bytes: number): Sum {
  if (algorithm !== 'poly1305' || bytes < THREADED_BYTES) return newSum(algorithm);
  return sumMadeLater(() => {
    const threads = sumThreads();
    return threads ? new ThreadedSum(threads) : newSum(algorithm);
  });
}

function withTensors<T>(directory: string, use: (config: LlamaConfig, own: ReadonlyMap<string, StoredTensor>) => T): T {
  return readingCheckpoint(directory, () => {
    const { config, files, own } = openTensors(directory);
    try {
      return use(config, own);
    } finally {
      for (const { file } of files) file.close();
    }
  });
}

function openTensors(directory: string) {
  const config = loadConfig(directory);
  const files: { path: string; file: SafetensorsFile }[] = [];
  try {
    for (const path of weightFiles(directory)) files.push({ path, file: readSafetensors(path) });
    const tensors = new Map<string, StoredTensor>();
    for (const { path, file } of files) {
      for (const stored of file.names)
        tensors.set(stored, { path, stored, shape: file.shape(stored), read: () => file.read(stored) });
    }
    return { config, files, own: modelTensors(tensors, config, directory) };
  } catch (error) {
    for (const { file } of files) file.close();
    throw error;
  }
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
