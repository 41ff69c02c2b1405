/**
 * What a model asks of the machine that it runs on: its memory, and files. The package's main entry gives it Node's; in a
 * browser there is none, and models are made of what the user hands over (`openCheckpoint`).
 */
import { UserError } from '@stickbreaking/base';
import type { Variable } from '@tensorflow/tfjs-core';
import type { FileChecksum, SummedFiles } from './checksums.js';
import type { LlamaConfig } from './config.js';

/** Options of `LlamaModel.save`. */
export interface SaveOptions {
  /** The token that ends a generated text, for `config.json`; default: none. */
  eosTokenId?: number | undefined;
}

/** Options of `LlamaModel.saveAsync`. */
export interface SaveAsyncOptions extends SaveOptions {
  /** Sum the weights' file while it is written; default false. */
  checksum?: boolean;
}

/** Options of `LlamaModel.loadAsync`. */
export interface LoadAsyncOptions {
  /** Notes the sums of the files as they are read, for `verifyChecksums`. */
  summed?: SummedFiles | undefined;
}

export interface Host {
  /** Bytes of memory that this process may take. */
  memory(): number;
  /** Builds a model from the files of a directory. */
  load<Model>(
    directory: string,
    build: (config: LlamaConfig, values: (name: string, shape: readonly number[]) => Float32Array) => Model,
  ): Model;
  /** Reads the parameters of the files of a directory, in any order. @returns their configuration */
  loadAsync(
    directory: string,
    take: (name: string, values: Float32Array, shape: readonly number[]) => void,
    options: LoadAsyncOptions,
  ): Promise<LlamaConfig>;
  save(directory: string, config: LlamaConfig, parameters: ReadonlyMap<string, Variable>, options: SaveOptions): void;
  saveAsync(
    directory: string,
    config: LlamaConfig,
    parameters: ReadonlyMap<string, Variable>,
    options: SaveAsyncOptions,
  ): Promise<FileChecksum | undefined>;
}

const noFiles = (): never => {
  throw new UserError('Models are loaded from directories and saved in them only under Node.');
};

let current: Host = {
  memory: () => Number.POSITIVE_INFINITY,
  load: noFiles,
  loadAsync: noFiles,
  save: noFiles,
  saveAsync: noFiles,
};

export const host = (): Host => current;

export function setHost(given: Host): void {
  current = given;
}
