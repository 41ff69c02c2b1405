/**
 * TensorFlow.js's elementwise operations. A result is stored as bfloat16 when every operand larger than a scalar is;
 * otherwise as float32. An operand that the kernel cannot index (neither whole, scalar, row nor column) is repeated first.
 */
import type { TfjsKernelName } from '@stickbreaking/core/backend';
import { backend_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { spread, vectorBlocks } from '../grids.js';
import { MAX_RANK, THREADS } from '../kernel_interface.js';
import { f32, i32, i64, pointer } from '../launch.js';
import { BINARY, UNARY } from '../operations.js';
import { type StorageType, storageFor, TYPE_CODE } from '../storage.js';
import { alias, type CudaTfjsKernel, type CudaTfjsKernels } from './define.js';
import { addFp24, isFp24 } from './residual_fp24.js';
import { tileTo } from './shape.js';

const ADD = BINARY.indexOf('Add');
const COMPARISONS = new Set<TfjsKernelName>(['Greater', 'GreaterEqual', 'Less', 'LessEqual', 'Equal', 'NotEqual']);

interface Index {
  divide: number;
  period: number;
}

/** How an operand is indexed from the output, or undefined where it takes more than a division and a remainder. */
function operandIndex(shape: number[], out: number[]): Index | undefined {
  const size = util.sizeFromShape(shape);
  const total = util.sizeFromShape(out);
  if (size === total) return { divide: 1, period: total };
  if (size === 1) return { divide: 1, period: 1 };
  const full = [...Array<number>(out.length - shape.length).fill(1), ...shape];
  const same = full.map((n, d) => n === out[d]!);
  const first = same.findIndex((s, d) => s && out[d]! > 1);
  let last = same.findLastIndex((s, d) => s && out[d]! > 1);
  if (first < 0) last = -1;
  for (let d = first; d <= last; d++) if (!same[d]) return undefined;
  const divide = out.slice(last + 1).reduce((p, n) => p * n, 1);
  return { divide, period: size };
}

function resultType(backend: CudaBackend, tensors: TensorInfo[]): StorageType {
  const large = tensors.filter((t) => util.sizeFromShape(t.shape) > 1);
  return large.length > 0 && large.every((t) => backend.entry(t).type === 'bf16') ? 'bf16' : 'f32';
}

function binary(name: (typeof BINARY)[number]): CudaTfjsKernel<'Add'> {
  const op = BINARY.indexOf(name);
  const run: CudaTfjsKernel<'Add'> = ({ a, b }, attrs, backend) => {
    const shape = backend_util.assertAndGetBroadcastShape(a.shape, b.shape);
    const [ai, bi] = [operandIndex(a.shape, shape), operandIndex(b.shape, shape)];
    if (name === 'RealDiv' && a.dtype === 'int32') return undefined;
    if (!ai || !bi) {
      if (shape.length > MAX_RANK) return undefined;
      const repeated = tileTo(backend, ai ? b : a, shape);
      const result = run(ai ? { a, b: repeated } : { a: repeated, b }, attrs, backend);
      backend.disposeData(repeated.dataId);
      return result;
    }
    if (COMPARISONS.has(name)) return launchBinary(backend, op, a, ai, b, bi, shape, 'u8');
    const integers = a.dtype !== 'float32' && b.dtype !== 'float32';
    return launchBinary(backend, op, a, ai, b, bi, shape, integers ? 'i32' : resultType(backend, [a, b]));
  };
  return run;
}

function launchBinary(
  backend: CudaBackend,
  op: number,
  a: TensorInfo,
  ai: Index,
  b: TensorInfo,
  bi: Index,
  shape: number[],
  type: StorageType,
): TensorInfo {
  const n = util.sizeFromShape(shape);
  const [ea, eb] = [backend.entry(a), backend.entry(b)];
  const alike = [ea, eb].every((entry) => entry.type === type && entry.size === n);
  if (op === ADD && alike && [a, b].some((one) => isFp24(backend, one))) {
    return addFp24(backend, { x: a, branch: b }, { multiplier: 1 });
  }
  const y = backend.make(shape, type);
  if (op === ADD && alike && (type === 'bf16' || type === 'f32')) {
    const args = [pointer(backend.address(y)), pointer(ea.address), pointer(eb.address), i64(n)];
    backend.launch('elementwise.cu', `add_${type}`, { grid: [vectorBlocks(n)], block: THREADS }, args);
    return y;
  }
  backend.launch('elementwise.cu', 'binary', { grid: [spread(n)], block: THREADS }, [
    pointer(backend.address(y)),
    i32(TYPE_CODE[type]),
    pointer(ea.address),
    i32(TYPE_CODE[ea.type]),
    i64(ai.divide),
    i64(ai.period),
    pointer(eb.address),
    i32(TYPE_CODE[eb.type]),
    i64(bi.divide),
    i64(bi.period),
    i32(op),
    i64(n),
  ]);
  return y;
}

function unary(name: (typeof UNARY)[number]): CudaTfjsKernel<'Neg'> {
  const op = UNARY.indexOf(name);
  return ({ x }, _attrs, backend) => {
    const entry = backend.entry(x);
    const type = entry.type === 'bf16' || entry.type === 'i32' ? entry.type : 'f32';
    const y = backend.make(x.shape, type);
    const args = [
      pointer(backend.address(y)),
      i32(TYPE_CODE[type]),
      pointer(entry.address),
      i32(TYPE_CODE[entry.type]),
    ];
    backend.launch('elementwise.cu', 'unary', { grid: [spread(entry.size)], block: THREADS }, [
      ...args,
      i32(op),
      i64(entry.size),
    ]);
    return y;
  };
}

export function fill(backend: CudaBackend, shape: number[], type: StorageType, value: number): TensorInfo {
  const y = backend.make(shape, type);
  fillAt(backend, backend.address(y), type, value, util.sizeFromShape(shape));
  return y;
}
export function fillAt(backend: CudaBackend, address: number, type: StorageType, value: number, size: number): void {
  if (size === 0) return;
  const args = [pointer(address), i32(TYPE_CODE[type]), f32(value), i64(size)];
  backend.launch('elementwise.cu', 'fill', { grid: [spread(size)], block: THREADS }, args);
}

const cast: CudaTfjsKernel<'Cast'> = ({ x }, { dtype }, backend) =>
  dtype === x.dtype ? alias(backend, x, x.shape) : backend.cast(x, storageFor(dtype), dtype);

const addN: CudaTfjsKernel<'AddN'> = (tensors, _attrs, backend) => {
  let sum = alias(backend, tensors[0]!, tensors[0]!.shape);
  for (const next of tensors.slice(1)) {
    const whole = { divide: 1, period: util.sizeFromShape(sum.shape) };
    const total = launchBinary(backend, 0, sum, whole, next, whole, sum.shape, resultType(backend, [sum, next]));
    backend.disposeData(sum.dataId);
    sum = total;
  }
  return sum;
};

function like(value: number): CudaTfjsKernel<'ZerosLike'> {
  return ({ x }, _attrs, backend) => fill(backend, x.shape, backend.entry(x).type, value);
}

/** The kernel of each name. */
function each<Name extends string, Kernel>(names: readonly Name[], make: (name: Name) => Kernel) {
  return Object.fromEntries(names.map((name) => [name, make(name)])) as Record<Name, Kernel>;
}

export const tfjsElementwiseKernels = {
  ...each(BINARY, binary),
  ...each(UNARY, unary),
  Cast: cast,
  AddN: addN,
  // Filling with text is left to the CPU, which says what is wrong with it.
  Fill: (_inputs, { shape, value, dtype }, backend) =>
    typeof value === 'number' ? fill(backend, shape, storageFor(dtype ?? 'float32'), value) : undefined,
  ZerosLike: like(0),
  OnesLike: like(1),
} satisfies CudaTfjsKernels;
