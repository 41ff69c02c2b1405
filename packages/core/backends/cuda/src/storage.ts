/**
 * What the backend keeps for a tensor. TensorFlow.js says `float32`; how the numbers are stored on the GPU is decided
 * here: activations as bfloat16 (what the matrix units read), weights, weight gradients and every reduction as float32.
 * A float32 tensor that a matmul reads gets a bfloat16 copy that lives as long as the tensor.
 */
import type { DataType } from '@tensorflow/tfjs-core';
import type { Rows } from './rows.js';
import type { SharedMemory } from './shared_memory.js';

export type StorageType = 'f32' | 'bf16' | 'i32' | 'u8';
/** The numbers common.cuh gives the types (compile.test.ts compares them). */
export const TYPE_CODE: Record<StorageType, number> = { f32: 0, bf16: 1, i32: 2, u8: 3 };
export const BYTES: Record<StorageType, number> = { f32: 4, bf16: 2, i32: 4, u8: 1 };

/** A matrix in eight bits. */
export interface Eight {
  address: number;
  /** Device address of a float32 for each row. */
  scales: number;
  /** Numbers of a row, without those that fill it up. */
  columns: number;
  /** Bytes from one row to the next. */
  width: number;
}

/** What is kept with a weight, or with the first of several that lie one below the other. */
export interface EightWeight {
  /** One block of memory, which everything lies in. */
  address: number;
  byRow: Eight;
  byColumn: Eight;
  /** Of which weights it was made, and which of their updates it has. */
  of: { entry: Entry; updates: number }[];
}

export interface Entry {
  address: number;
  size: number;
  type: StorageType;
  dtype: DataType;
  refCount: number;
  /** Where its rows do not simply follow one another. */
  rows?: Rows | undefined;
  /** Where its memory is that of other tensors too. */
  memory?: SharedMemory | undefined;
  /** Whether its memory is somebody else's, who gives it back. */
  borrowed?: boolean | undefined;
  /** The bfloat16 copy of a float32 tensor, once one is needed. */
  copy?: number | undefined;
  copyMemory?: SharedMemory | undefined;
  /** Called once before its memory is used: to wait for another stream, or to have that memory at all. */
  before?: (() => void) | undefined;
  /** Whether its memory holds nothing yet and stands for zeros. */
  blank?: boolean | undefined;
  /** How often the optimizer has changed it. */
  updates?: number;
  /** Of the residual stream: the next eight bits of each of its bfloat16 numbers, a byte each. */
  rest?: number | undefined;
  /** The same in eight bits, written with it for the matmul that reads it next. */
  eight?: Eight | undefined;
  /** A weight in eight bits, alone or with those that lie below it. */
  eightWeight?: EightWeight | undefined;
  /** The values of a small int32 tensor from the host, kept so that reading them does not wait for the GPU. */
  host?: Int32Array;
}

/** Elements up to the end of a tensor's last row, the padding of its rows included: for kernels that mind no zeros. */
export function elementsInUse({ rows, size }: Entry): number {
  return rows ? (size / rows.columns) * rows.stride : size;
}

/** Elements in a tensor's own memory, padding included. */
export function elementsOf({ rows, size }: Pick<Entry, 'rows' | 'size'>): number {
  return rows ? rows.count * rows.stride : size;
}

export function storageFor(dtype: DataType): StorageType {
  if (dtype === 'float32') return 'f32';
  if (dtype === 'int32') return 'i32';
  if (dtype === 'bool') return 'u8';
  throw new Error(`the cuda backend holds float32, int32 and bool tensors, not ${dtype}`);
}
