/**
 * Generation: pages of cached keys and values, and attention of single new tokens to them. What all layers of a step share, the
 * documents' lengths and pages, is uploaded once.
 */
import { runReference } from '@stickbreaking/core/backend';
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { spread } from '../grids.js';
import { DECODE, THREADS } from '../kernel_interface.js';
import { i32, i64, pointer } from '../launch.js';
import { operandOf } from '../matrix.js';
import { BYTES } from '../storage.js';
import type { CudaKernel, CudaKernels } from './define.js';
import { leastStick } from './flash_blocks.js';
import { rotaryAngles } from './rotary.js';

/** decode.cuh: warps of a block, and keys of a warp. */
const WARPS = 4;
const CHUNK = 32;
/** decode.cu: the newest keys, which one block works, and keys of a run behind them. */
const NEAR = 512;
const RUN = 1024;
/** decode_softmax.cu: keys of a run at least, and runs at most, so that few blocks wait for one that combines them. */
const LEAST_RUN = 256;
const MOST_RUNS = 16;

const growPages: CudaKernel<'GrowPages'> = ({ pages }, { count }, backend) => {
  const [, ...page] = pages.shape as [number, number, number, number];
  const larger = backend.make([count, ...page], 'bf16');
  const bytes = util.sizeFromShape(pages.shape) * BYTES.bf16;
  const { driver } = backend;
  if (bytes > 0)
    driver.call('cuMemcpyDtoDAsync_v2', backend.address(larger), backend.bf16(pages), bytes, driver.stream);
  return [larger];
};

const writePages: CudaKernel<'WritePages'> = ({ k, v, keyPages, valuePages }, { slots }, backend) => {
  if (slots.length === 0) return [];
  const { address, sizes } = slotsOf(backend, 'slots to write', keyPages, slots);
  const rows = [k, v].map((tensor) => operandOf(backend, tensor, sizes.width));
  backend.launch('pages.cu', 'write_pages', { grid: [spread(slots.length * sizes.width)], block: THREADS }, [
    ...[keyPages, valuePages].map((pages) => pointer(pageAddress(backend, pages))),
    ...rows.flatMap((own) => [pointer(own.address), i64(own.stride)]),
    pointer(address),
    ...sizes.args,
  ]);
  return [];
};

const readPages: CudaKernel<'ReadPages'> = ({ pages }, { slots }, backend) => {
  const { address, sizes } = slotsOf(backend, 'slots to read', pages, slots);
  const rows = backend.make([slots.length, pages.shape[1]!, pages.shape[3]!], 'bf16');
  backend.launch('pages.cu', 'read_pages', { grid: [spread(slots.length * sizes.width)], block: THREADS }, [
    pointer(backend.address(rows)),
    pointer(pageAddress(backend, pages)),
    pointer(address),
    ...sizes.args,
  ]);
  return [rows];
};

function slotsOf(backend: CudaBackend, name: string, pages: TensorInfo, slots: Int32Array) {
  const [, kvHeads, pageTokens, dim] = pages.shape as [number, number, number, number];
  const width = kvHeads * dim;
  const args = [i64(slots.length * width), i32(kvHeads), i32(pageTokens), i32(dim)];
  return { address: backend.residents.array(name, slots), sizes: { width, args } };
}

/** Pages are changed in place, so they are what the tensor itself holds. */
function pageAddress(backend: CudaBackend, pages: TensorInfo): number {
  const entry = backend.entry(pages);
  if (entry.type !== 'bf16') throw new Error(`cuda: pages are ${entry.type}; expected what GrowPages made`);
  return entry.address;
}

/** What the decoding kernels are compiled for; undefined where they do not serve. */
export function decodeMacros([, heads, dim]: readonly number[], [, kvHeads, pageTokens]: readonly number[]) {
  const group = heads! / kvHeads!;
  if (![16, 32, 64, 128, 256].includes(dim!) || group * dim! > 2048) return undefined;
  return [`HEAD_DIM=${dim}`, `GROUP=${group}`, `PAGE=${pageTokens}`];
}

/** decode.cu: the size of `Shared`. */
function sharedBytes(group: number, dim: number): number {
  return 4 * (dim + group * dim + WARPS * CHUNK + (WARPS + 1) * group * (dim + 2) + 4);
}

/** decode_softmax.cu: query heads of a block. */
function headsOfABlock(group: number): number {
  return [4, 3, 2].find((heads) => group % heads === 0) ?? 1;
}

const decodeAttention: CudaKernel<'DecodeAttention'> = (inputs, attrs, backend) => {
  const { q, k, v, keyPages, valuePages } = inputs;
  const { lengths, table, attention } = attrs;
  const [rows, heads, dim] = q.shape as [number, number, number];
  const kvHeads = k.shape[1]!;
  const group = heads / kvHeads;
  const macros = decodeMacros(q.shape, keyPages.shape);
  if (!macros || rows === 0) return runReference('DecodeAttention', inputs, attrs);
  const { residents: memory } = backend;
  const isStick = attention.kind === 'stick-breaking';
  // By the pages that the table has room for: while it is as wide, a launch has the same shape.
  const longest = (table.length / rows) * keyPages.shape[2]!;
  // Of stick-breaking attention those behind the near keys.
  const runs = isStick
    ? Math.max(0, Math.ceil((longest - NEAR + CHUNK) / RUN))
    : Math.min(MOST_RUNS, Math.ceil((longest + CHUNK) / LEAST_RUN));
  const outputs = [
    backend.make(q.shape, 'bf16'),
    backend.make([rows, heads], 'f32'),
    backend.make([rows, kvHeads], 'i32'),
  ];
  const [query, key, value] = [q, k, v].map((tensor) => operandOf(backend, tensor, tensor.shape[1]! * dim));
  const angles = attrs.inverseFrequencies && rotaryAngles(backend, dim / 2, longest, attrs.inverseFrequencies);
  const slopes = attention.kind === 'softmax' ? attention.alibiSlopes : undefined;
  const argument = DECODE.argument({
    ...{ q: query!.address, k: key!.address, v: value!.address },
    // Keys that are normalised by head no longer lie beside the values.
    ...{ qStride: query!.stride, kStride: key!.stride, vStride: value!.stride },
    ...{ keyPages: pageAddress(backend, keyPages), valuePages: pageAddress(backend, valuePages) },
    ...{
      lengths: memory.array('lengths', lengths),
      table: memory.array('table', table),
      tableWidth: table.length / rows,
    },
    ...{ angles: angles?.address ?? 0, positions: angles?.positions ?? 0 },
    slopes: slopes ? memory.array('slopes', slopes) : 0,
    ...{ output: backend.address(outputs[0]!), remainder: backend.address(outputs[1]!) },
    keysRead: backend.address(outputs[2]!),
    parts: memory.block('parts', rows * heads * (1 + runs) * (dim + 2) * 4).address,
    done: memory.block('done', rows * kvHeads * 4).address,
    states: memory.block('states', rows * heads * (1 + runs) * 4).address,
    ...{ heads, kvHeads, near: NEAR, run: isStick ? RUN : LEAST_RUN, runs },
    window: attention.kind === 'softmax' ? attention.window : 0,
    attendCurrent: attention.kind === 'stick-breaking' && attention.attendCurrent ? 1 : 0,
    scale: attrs.scale * Math.LOG2E,
    exhausted: leastStick(backend.blockSkipping),
  });
  const launch = (file: string, name: string, shared: number, ...grid: [number, number, number?]) =>
    backend.driver.launch(backend.function(file, name, macros), { grid, block: 32 * WARPS, shared, early: true }, [
      argument,
    ]);
  if (isStick) {
    launch('decode.cu', 'decode_near', sharedBytes(group, dim), kvHeads, rows);
    if (runs > 0) launch('decode.cu', 'decode_far', sharedBytes(group, dim), kvHeads, rows, runs);
  } else {
    launch('decode_softmax.cu', 'decode_softmax', 0, heads / headsOfABlock(group), rows, runs);
  }
  return outputs as [TensorInfo, TensorInfo, TensorInfo];
};

export const decodeKernels = {
  GrowPages: growPages,
  WritePages: writePages,
  ReadPages: readPages,
  DecodeAttention: decodeAttention,
} satisfies CudaKernels;
