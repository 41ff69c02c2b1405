/**
 * Rotary embedding. Every layer of a step rotates by the same angles, forward and back, so their cosines and sines are
 * computed once and stay on the GPU until others replace them.
 */
import { type RotaryAttributes, type RowPositions, sameValues } from '@stickbreaking/core/backend';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { NotRecordable } from '../arena.js';
import type { CudaBackend } from '../backend.js';
import { ROTARY_HEADS, THREADS, VECTOR } from '../kernel_interface.js';
import { f32, i32, i64, pointer } from '../launch.js';
import { operandOf } from '../matrix.js';
import { alias, type CudaKernels } from './define.js';

/** Queries and keys have separate tables if there is a cache of keys. */
const KEPT = 2;

interface Table {
  key: readonly (Int32Array | Float64Array)[];
  address: number;
}

/** Newest first. */
const kept = new WeakMap<CudaBackend, Table[]>();

/** Device address of the cosines and sines of every row, [2, rows, half] in float32. */
export function rotaryTable(
  backend: CudaBackend,
  half: number,
  { cuSeqlens, firstPositions }: RowPositions,
  inverseFrequencies: Float64Array,
): number {
  const key = [cuSeqlens, firstPositions, inverseFrequencies];
  const tables = kept.get(backend) ?? [];
  const found = tables.find((one) => one.key.every((values, i) => sameValues(values, key[i]!)));
  if (found) {
    kept.set(backend, [found, ...tables.filter((one) => one !== found)]);
    return found.address;
  }
  const address = makeTable(backend, half, { cuSeqlens, firstPositions }, inverseFrequencies);
  // What kernels on their way still read is given back in stream order, behind them.
  for (const { address: old } of tables.slice(KEPT - 1)) backend.driver.release(old);
  kept.set(backend, [{ key: key.map((values) => values.slice()), address }, ...tables.slice(0, KEPT - 1)]);
  return address;
}

/** New memory with the cosines and sines of every row. */
function makeTable(
  backend: CudaBackend,
  half: number,
  { cuSeqlens, firstPositions }: RowPositions,
  inverseFrequencies: Float64Array,
): number {
  const documents = cuSeqlens.length - 1;
  const rows = cuSeqlens[documents]!;
  const address = backend.driver.allocate(2 * rows * half * 4);
  backend.withScratch((scratch) => {
    const lists = [cuSeqlens, firstPositions, inverseFrequencies].map((one) => pointer(scratch.upload(one)));
    const perDocument = inverseFrequencies.length > half ? 1 : 0;
    const shape = { grid: [Math.ceil((rows * half) / THREADS)] as const, block: THREADS };
    backend.launch('transformer.cu', 'rotary_table', shape, [
      pointer(address),
      ...lists,
      ...[documents, perDocument, rows, half].map(i32),
    ]);
  });
  return address;
}

/** The angles of positions from 0, for kernels that look them up. */
interface Angles {
  inverseFrequencies: Float64Array;
  address: number;
  positions: number;
}
const anglesOf = new WeakMap<CudaBackend, Angles>();

/** Cosines and sines of at least so many positions, [2, positions, half]; they stay until other frequencies are asked for. */
export function rotaryAngles(
  backend: CudaBackend,
  half: number,
  positions: number,
  inverseFrequencies: Float64Array,
): Angles {
  const { graphs } = backend;
  const old = anglesOf.get(backend);
  if (old && old.positions >= positions && sameValues(old.inverseFrequencies, inverseFrequencies)) {
    graphs.noteResident('angles', old.address, () => anglesOf.get(backend)?.address);
    return old;
  }
  if (graphs.isRecording) throw new NotRecordable('other angles');
  if (old) backend.driver.release(old.address);
  const size = 2 ** Math.ceil(Math.log2(Math.max(positions, 1024)));
  const whole = { cuSeqlens: Int32Array.of(0, size), firstPositions: Int32Array.of(0) };
  const address = makeTable(backend, half, whole, inverseFrequencies);
  const made = { inverseFrequencies: inverseFrequencies.slice(), address, positions: size };
  anglesOf.set(backend, made);
  return made;
}

/** q and k turned, each in new memory or in place. */
export function turnBoth(
  inputs: { q: TensorInfo; k: TensorInfo },
  { queries, keys, inverseFrequencies, inverse }: RotaryAttributes,
  backend: CudaBackend,
  inPlace = false,
): [q: TensorInfo, k: TensorInfo] {
  const dim = inputs.q.shape[2]!;
  const parts = [
    { tensor: inputs.q, positions: queries },
    { tensor: inputs.k, positions: keys },
  ].map(({ tensor, positions }) => {
    const [rows, heads] = tensor.shape as [number, number];
    const units = rows * Math.ceil(heads / ROTARY_HEADS) * Math.ceil(dim / 2 / VECTOR);
    const table = rotaryTable(backend, dim / 2, positions, inverseFrequencies);
    const turned = inPlace ? alias(backend, tensor, tensor.shape) : backend.make(tensor.shape, 'bf16');
    const [x, y] = [tensor, turned].map((one) => operandOf(backend, one, heads * dim));
    return { x: x!, y: y!, turned, table, rows, heads, blocks: Math.ceil(units / THREADS) };
  });
  const [q, k] = parts as [(typeof parts)[0], (typeof parts)[0]];
  const args = ({ x, y, table, rows, heads }: typeof q) => [
    ...[y, x].flatMap(({ address, stride }) => [pointer(address), i64(stride)]),
    pointer(table),
    i32(rows),
    i32(heads),
  ];
  backend.launch('transformer.cu', 'rotary', { grid: [q.blocks + k.blocks], block: THREADS }, [
    ...args(q),
    i32(q.blocks),
    ...args(k),
    i32(dim),
    f32(inverse ? -1 : 1),
  ]);
  return [q.turned, k.turned];
}

export const rotaryKernels = {
  RotaryEmbedding: (inputs, attrs, backend) => turnBoth(inputs, attrs, backend),
} satisfies CudaKernels;
