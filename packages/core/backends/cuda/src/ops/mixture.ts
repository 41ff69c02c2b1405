/**
 * A mixture of experts: its tokens' rows are sorted by expert on the GPU and multiplied by each expert's weights (grouped.ts). The
 * host never learns how many rows an expert has. Kept for the backward are gate and up and where the rows lie; what the experts gave
 * is not, since the gradient of the gates is made without it.
 */
import { type KernelInputs, runReference } from '@stickbreaking/core/backend';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { MIXTURE_TOKENS, MOST_EXPERTS, ROUTE_TOKENS, THREADS, VECTOR } from '../kernel_interface.js';
import { f32, i32, i64, pointer } from '../launch.js';
import { makeMatrix, operandOf } from '../matrix.js';
import { type Matrix, reachedSizes, roundUp } from '../rows.js';
import type { Scratch } from '../scratch.js';
import { BYTES } from '../storage.js';
import type { CudaKernel, CudaKernels } from './define.js';
import { type GroupedOperand, grouped, tilesAcross } from './grouped.js';
import { matmulKernels, writableSum } from './matmul.js';
import { MOST_ROWS } from './rowwise.js';

const FILE = 'mixture.cu';
/** Of a token, at most: a block's choices are in shared memory. */
const MOST_ACTIVE = 128;
/** Blocks that have all experts. */
const ALL_THREADS = 1024;
const ALIGNMENT = 256;

interface Sizes {
  tokens: number;
  width: number;
  units: number;
  experts: number;
  active: number;
  /** tokens · active */
  rows: number;
}

type Inputs = Pick<KernelInputs<'MixtureOfExperts'>, 'x' | 'router' | 'input' | 'output'>;

function sizesOf({ x, output }: Inputs, { active }: { active: number }): Sizes {
  const [tokens] = x.shape as [number];
  const [experts, width, units] = output.shape as [number, number, number];
  return { tokens, width, units, experts, active, rows: tokens * active };
}

/** Whether the kernels take it; rows must begin at multiples of 16 bytes. */
function serves({ tokens, width, units, experts, active, rows }: Sizes): boolean {
  const few = experts <= MOST_EXPERTS && active <= MOST_ACTIVE && rows < 2 ** 31;
  return tokens > 0 && width % VECTOR === 0 && units % VECTOR === 0 && few;
}

/** What the forward keeps, one after another in one memory: gate and up of each row, then where rows lie, then the gates. */
function keptAt(address: number, { tokens, units, experts, rows }: Sizes) {
  let end = address;
  const next = (bytes: number) => {
    const at = end;
    end += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    return at;
  };
  const open = next(rows * 2 * units * BYTES.bf16);
  const [order, place, gates] = [next(rows * 4), next(rows * 4), next(rows * 4)];
  const [normaliser, offsets] = [next(tokens * 4), next((experts + 1) * 4)];
  return { open, order, place, gates, normaliser, offsets, bytes: end - address };
}
type Kept = ReturnType<typeof keptAt>;

const mixture: CudaKernel<'MixtureOfExperts'> = (inputs, attrs, backend) => {
  const sizes = sizesOf(inputs, attrs);
  if (!serves(sizes)) return runReference('MixtureOfExperts', inputs, attrs);
  const { tokens, width, units, experts, active, rows } = sizes;
  const { x, router, input, output } = inputs;
  const source = operandOf(backend, x);
  const logits = logitsOf(backend, source, operandOf(backend, router), sizes);
  const choices = backend.make([tokens, active], 'i32');
  const routing = backend.make([2 + experts], 'f32');
  const saved = backend.makeOpaque(keptAt(0, sizes).bytes);
  const kept = keptAt(backend.stored(saved).address, sizes);
  route(backend, sizes, kept, { logits, choices, routing });
  const y = backend.make([tokens, width], 'bf16');
  const placed = { rows, experts, active, order: kept.order, offsets: kept.offsets };
  backend.withScratch((scratch) => {
    const wide = scratch.allocate(rows * width * BYTES.bf16);
    const hidden = scratch.allocate(rows * units * BYTES.bf16);
    const own = byExpert(backend, sizes, kept, source, wide);
    const inputs = { address: backend.bf16(input), rows: 2 * units, columns: width, experts };
    const outputs = { address: backend.bf16(output), rows: width, columns: units, experts };
    const open = { wide: kept.open, hidden };
    grouped(backend, 'mixture_up', placed, [own, inputs], { inner: width, columns: units }, open);
    const between = { address: hidden, rows, columns: units };
    // What may have been laid out there has been read.
    grouped(backend, 'mixture_down', placed, [between, outputs], { inner: units, columns: width }, { out: wide });
    combine(backend, sizes, kept, wide, backend.address(y), kept.gates);
  });
  return [y, routing, choices, logits, saved];
};

const mixtureGrad: CudaKernel<'MixtureOfExpertsGrad'> = (inputs, attrs, backend) => {
  const sizes = sizesOf(inputs, attrs);
  if (!serves(sizes)) return runReference('MixtureOfExpertsGrad', inputs, attrs);
  const { tokens, width, units, experts, active, rows } = sizes;
  const { x, router, input, output, choices, logits, saved, dy, sumRouter, sumInput, sumOutput } = inputs;
  const kept = keptAt(backend.stored(saved).address, sizes);
  const { offsets, order, gates, open } = kept;
  const placed = { rows, experts, active, order, offsets };
  const target = (like: TensorInfo, sum?: TensorInfo) =>
    sum ? writableSum(backend, sum) : backend.make(like.shape, 'f32');
  const [dInput, dOutput] = [target(input, sumInput), target(output, sumOutput)];
  const dx = backend.make([tokens, width], 'bf16');
  const dLogits = makeMatrix(backend, [tokens, experts], 'bf16', { rows: tokens, columns: roundUp(experts) });
  backend.withScratch((scratch) => {
    const half = (columns: number) => scratch.allocate(rows * columns * BYTES.bf16);
    const [wide, dOpen, hidden] = [half(width), half(2 * units), half(units)];
    const shares = scratch.allocate(tilesAcross(backend, units) * rows * 4);
    const opened = { address: dOpen, rows, columns: 2 * units };
    const weighed = { address: hidden, rows, columns: units };
    const inputs = { address: backend.bf16(input), rows: 2 * units, columns: width, experts };
    const outputs = { address: backend.bf16(output), rows: width, columns: units, experts };
    const ofDy = byExpert(backend, sizes, kept, operandOf(backend, dy), wide);
    const made = { gates, open, wide: dOpen, hidden, sums: shares };
    grouped(backend, 'mixture_down_grad', placed, [ofDy, outputs], { inner: width, columns: units }, made);
    const ofOutput = { sums: backend.address(dOutput), accumulate: sumOutput !== undefined };
    grouped(backend, 'mixture_down_weights', placed, [ofDy, weighed], { height: width, columns: units }, ofOutput);
    const ofX = byExpert(backend, sizes, kept, operandOf(backend, x), wide);
    const ofInput = { sums: backend.address(dInput), accumulate: sumInput !== undefined };
    const upWeights = (of: [GroupedOperand, GroupedOperand], height: number, columns: number) =>
      grouped(backend, 'mixture_up_weights', placed, of, { height, columns }, ofInput);
    // What is gathered is the left operand.
    if (backend.hopper) upWeights([ofX, opened], width, 2 * units);
    else upWeights([opened, ofX], 2 * units, width);
    grouped(backend, 'mixture_up_grad', placed, [opened, inputs], { inner: 2 * units, columns: width }, { out: wide });
    combine(backend, sizes, kept, wide, backend.address(dx), 0);
    const { balanceCounts } = attrs;
    const balance = balanceCounts ? countsOf(balanceCounts, rows, scratch) : { offsets, factor: 1 };
    const { zWeight } = attrs;
    const weights = { balanceWeight: attrs.balanceWeight * balance.factor, zWeight };
    const at = { shares, logits, choices, dLogits, balanceOffsets: balance.offsets };
    routeGrad(backend, sizes, kept, at, weights);
  });
  addRouter(backend, dx, dLogits, router);
  const [dRouter] = matmulKernels.WeightGrads(
    { x, dy0: dLogits, ...(sumRouter ? { sum0: sumRouter } : {}) },
    {},
    backend,
  );
  backend.disposeData(dLogits.dataId);
  return [dx, dRouter!, dInput, dOutput];
};

/** x·routerᵀ in float32. Of few tokens by a kernel for which it does not matter how few. */
function logitsOf(backend: CudaBackend, x: Matrix, router: Matrix, { tokens, width, experts }: Sizes): TensorInfo {
  const logits = backend.make([tokens, experts], 'f32');
  const to = backend.address(logits);
  if (tokens <= MOST_ROWS) {
    const grid = [Math.ceil((tokens * experts) / (THREADS / 32))] as const;
    const matrices = [x, router].flatMap(({ address, stride }) => [pointer(address), i64(stride)]);
    const args = [pointer(to), ...matrices, ...[tokens, experts, width].map(i32)];
    backend.launch(FILE, 'mixture_logits', { grid, block: THREADS }, args);
  } else {
    backend.matmul(x.address, router.address, to, {
      ...{ m: tokens, n: experts, k: width, transposeA: false, transposeB: true, output: 'f32' },
      ...{ lda: x.stride, ldb: router.stride, ldc: experts },
    });
  }
  return logits;
}

/** Chooses each token's experts and places its rows. */
function route(
  backend: CudaBackend,
  { tokens, experts, active }: Sizes,
  { order, place, gates, normaliser, offsets }: Kept,
  tensors: { logits: TensorInfo; choices: TensorInfo; routing: TensorInfo },
): void {
  const [logits, choices, routing] = [tensors.logits, tensors.choices, tensors.routing].map((one) =>
    pointer(backend.address(one)),
  ) as [ReturnType<typeof pointer>, ReturnType<typeof pointer>, ReturnType<typeof pointer>];
  const blocks = Math.ceil(tokens / MIXTURE_TOKENS);
  const chosen = [i64(tokens), i32(experts), i32(active)];
  const [each, perExpert] = [{ grid: [blocks], block: THREADS } as const, threadsFor(experts + 1)];
  const launch = (
    name: string,
    shape: Parameters<CudaBackend['launch']>[2],
    args: Parameters<CudaBackend['launch']>[3],
  ) => backend.launch(FILE, name, shape, args);
  backend.withScratch((scratch) => {
    const counts = pointer(scratch.allocate(blocks * experts * 4));
    const partial = pointer(scratch.allocate(blocks * (experts + 1) * 4));
    const [inOrder, places, weights, sums] = [order, place, gates, normaliser].map(pointer);
    const starts = pointer(offsets);
    launch('mixture_route', { grid: [Math.ceil(tokens / ROUTE_TOKENS)], block: ROUTE_TOKENS * 32 }, [
      ...[choices, weights!, sums!, logits],
      ...chosen,
    ]);
    launch('mixture_count', each, [counts, choices, ...chosen]);
    launch('mixture_scan', { grid: [1], block: ALL_THREADS }, [starts, counts, i32(blocks), i32(experts)]);
    const shared = (THREADS / 32) * experts * 4;
    launch('mixture_place', { ...each, shared }, [...[inOrder!, places!, counts, choices], ...chosen]);
    launch('mixture_means', { grid: [blocks], block: perExpert }, [partial, logits, sums!, i64(tokens), i32(experts)]);
    launch('mixture_losses', { grid: [1], block: ALL_THREADS }, [routing, partial, starts, i32(blocks), ...chosen]);
  });
}

/** Whole warps, one thread each where they suffice. */
function threadsFor(count: number): number {
  return Math.min(ALL_THREADS, Math.ceil(count / 32) * 32);
}

/** Tokens' rows as an operand: Hopper's kernels read them where they are; for others each is copied to all of its places first. */
function byExpert(
  backend: CudaBackend,
  { tokens, width, active, rows }: Sizes,
  { place }: Kept,
  from: Matrix,
  to: number,
): GroupedOperand {
  if (backend.hopper) return { address: from.address, rows: tokens, columns: width, stride: from.stride };
  backend.launch(FILE, 'mixture_scatter', { grid: [Math.ceil(tokens / (THREADS / 32))], block: THREADS }, [
    ...[pointer(to), pointer(from.address), i64(from.stride), pointer(place)],
    ...[i64(tokens), i32(width), i32(active)],
  ]);
  return { address: to, rows, columns: width };
}

/** Adds up each token's rows; `gates` 0: as they are. */
function combine(
  backend: CudaBackend,
  { tokens, width, active }: Sizes,
  { place }: Kept,
  from: number,
  to: number,
  gates: number,
): void {
  const block = Math.min(THREADS, threadsFor(width / VECTOR));
  backend.launch(FILE, 'mixture_combine', { grid: [tokens], block }, [
    ...[to, from, place, gates].map(pointer),
    ...[width, active].map(i32),
  ]);
}

/**
 * Where each expert's rows would begin if experts had as many as `counts` says, of which the kernel takes their shares: of
 * these `rows`, so that its weight is corrected by a factor.
 */
function countsOf(counts: readonly number[], rows: number, scratch: Scratch): { offsets: number; factor: number } {
  const starts = new Int32Array(counts.length + 1);
  for (const [e, count] of counts.entries()) starts[e + 1] = starts[e]! + count;
  return { offsets: scratch.upload(starts), factor: rows / Math.max(1, starts.at(-1)!) };
}

function routeGrad(
  backend: CudaBackend,
  { tokens, units, experts, active }: Sizes,
  { place, gates, normaliser }: Kept,
  at: { shares: number; logits: TensorInfo; choices: TensorInfo; dLogits: TensorInfo; balanceOffsets: number },
  { balanceWeight, zWeight }: { balanceWeight: number; zWeight: number },
): void {
  const [choices, logits] = [at.choices, at.logits].map((one) => backend.address(one)) as [number, number];
  const shape = { grid: [Math.ceil(tokens / ROUTE_TOKENS)] as const, block: ROUTE_TOKENS * 32 };
  backend.launch(FILE, 'mixture_route_grad', { ...shape, shared: ROUTE_TOKENS * active * 4 }, [
    ...[pointer(backend.stored(at.dLogits).address), i32(roundUp(experts))],
    ...[pointer(at.shares), i32(tilesAcross(backend, units))],
    ...[place, gates, choices, logits, normaliser, at.balanceOffsets].map(pointer),
    ...[f32(balanceWeight), f32(zWeight), i64(tokens), i32(experts), i32(active)],
  ]);
}

/** dx += dLogits·router. */
function addRouter(backend: CudaBackend, dx: TensorInfo, dLogits: TensorInfo, router: TensorInfo): void {
  const [m, n] = dx.shape as [number, number];
  const [left, right] = [operandOf(backend, dLogits), operandOf(backend, router)];
  const sizes = { m, n, k: router.shape[0]!, transposeA: false, transposeB: false };
  backend.matmul(left.address, right.address, backend.address(dx), {
    ...{ ...sizes, k: reachedSizes(sizes, left, right).k, output: 'bf16', beta: 1 },
    ...{ lda: left.stride, ldb: right.stride, ldc: n },
  });
}

export const mixtureKernels = {
  MixtureOfExperts: mixture,
  MixtureOfExpertsGrad: mixtureGrad,
} satisfies CudaKernels;
