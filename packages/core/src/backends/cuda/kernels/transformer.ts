/** The small ops of a transformer block: norms, SwiGLU, rotary position embedding, token embedding, remainder bias. */
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import { spread } from '../backend.js';
import { f32, i32, i64, pointer } from '../driver.js';
import { type KernelCall, type KernelTable, need } from './define.js';
import { fillAt } from './elementwise.js';
import { sumPartials } from './reduce.js';

/** Parts into which a sum over tokens is split before the fixed-order addition. */
const PARTS = 128;

function rmsThreads(columns: number, most: number): number {
  return Math.min(most, Math.max(32, Math.ceil(columns / 8 / 32) * 32));
}

function rmsNorm(call: KernelCall): TensorInfo[] {
  const [x, weight] = [need(call, 'x'), need(call, 'weight')];
  const { backend } = call;
  const columns = x.shape[x.shape.length - 1]!;
  const rows = util.sizeFromShape(x.shape) / columns;
  const [y, inverseRms] = [backend.make(x.shape, 'bf16'), backend.make([rows], 'f32')];
  backend.withScratch((scratch) =>
    backend.launch('norm.cu', 'rms_norm', { grid: [rows], block: rmsThreads(columns, 256) }, [
      pointer(backend.address(y)),
      pointer(backend.address(inverseRms)),
      pointer(backend.bf16(x)),
      pointer(backend.f32(weight, scratch)),
      i32(columns),
      f32(call.attrs.epsilon as number),
    ]),
  );
  return [y, inverseRms];
}

function rmsNormGrad(call: KernelCall): TensorInfo[] {
  const [x, weight, inverseRms, dy] = [
    need(call, 'x'),
    need(call, 'weight'),
    need(call, 'inverseRms'),
    need(call, 'dy'),
  ];
  const { backend } = call;
  const columns = x.shape[x.shape.length - 1]!;
  const rows = util.sizeFromShape(x.shape) / columns;
  const threads = rmsThreads(columns, 1024);
  if (columns > threads * 32) throw new Error(`RMSNorm's gradient takes rows of up to 32768, got ${columns}`);
  const name = columns <= threads * 8 ? 'rms_norm_grad1' : 'rms_norm_grad4';
  const grid = Math.min(rows, backend.driver.multiprocessors * 4);
  const [dx, dWeight] = [backend.make(x.shape, 'bf16'), backend.make([columns], 'f32')];
  backend.withScratch((scratch) => {
    const partial = scratch.allocate(grid * columns * 4);
    backend.launch('norm.cu', name, { grid: [grid], block: threads }, [
      pointer(backend.address(dx)),
      pointer(partial),
      pointer(backend.bf16(x)),
      pointer(backend.f32(weight, scratch)),
      pointer(backend.f32(inverseRms, scratch)),
      pointer(backend.bf16(dy)),
      i32(rows),
      i32(columns),
    ]);
    sumPartials(backend, backend.address(dWeight), partial, grid, columns);
  });
  return [dx, dWeight];
}

function headNorm(call: KernelCall): TensorInfo[] {
  const [x, weight, bias] = [need(call, 'x'), need(call, 'weight'), need(call, 'bias')];
  const { backend } = call;
  const [tokens, heads, dim] = x.shape as [number, number, number];
  const y = backend.make(x.shape, 'bf16');
  const [mean, inverseStd] = [backend.make([tokens, heads], 'f32'), backend.make([tokens, heads], 'f32')];
  backend.withScratch((scratch) =>
    backend.launch('norm.cu', 'head_norm', { grid: [Math.ceil((tokens * heads) / 8)], block: 256 }, [
      pointer(backend.address(y)),
      pointer(backend.address(mean)),
      pointer(backend.address(inverseStd)),
      pointer(backend.bf16(x)),
      pointer(backend.f32(weight, scratch)),
      pointer(backend.f32(bias, scratch)),
      i64(tokens * heads),
      i32(heads),
      i32(dim),
      f32(call.attrs.epsilon as number),
    ]),
  );
  return [y, mean, inverseStd];
}

function headNormGrad(call: KernelCall): TensorInfo[] {
  const { backend } = call;
  const x = need(call, 'x');
  const [tokens, heads, dim] = x.shape as [number, number, number];
  const columns = heads * dim;
  const dx = backend.make(x.shape, 'bf16');
  const [dWeight, dBias] = [backend.make([heads, dim], 'f32'), backend.make([heads, dim], 'f32')];
  backend.withScratch((scratch) => {
    const mean = pointer(backend.f32(need(call, 'mean'), scratch));
    const inverseStd = pointer(backend.f32(need(call, 'inverseStd'), scratch));
    const [xs, dy] = [pointer(backend.bf16(x)), pointer(backend.bf16(need(call, 'dy')))];
    const weight = pointer(backend.f32(need(call, 'weight'), scratch));
    const grid = [Math.ceil((tokens * heads) / 8)] as const;
    const sizes = [i64(tokens * heads), i32(heads), i32(dim)];
    backend.launch('norm.cu', 'head_norm_dx', { grid, block: 256 }, [
      pointer(backend.address(dx)),
      xs,
      weight,
      mean,
      inverseStd,
      dy,
      ...sizes,
    ]);
    const [pw, pb] = [scratch.allocate(PARTS * columns * 4), scratch.allocate(PARTS * columns * 4)];
    backend.launch('norm.cu', 'head_norm_dw', { grid: [Math.ceil(columns / 128), PARTS], block: 128 }, [
      pointer(pw),
      pointer(pb),
      xs,
      mean,
      inverseStd,
      dy,
      i64(tokens),
      i32(heads),
      i32(dim),
    ]);
    sumPartials(backend, backend.address(dWeight), pw, PARTS, columns);
    sumPartials(backend, backend.address(dBias), pb, PARTS, columns);
  });
  return [dx, dWeight, dBias];
}

/** x + multiplier·branch, or the gradient of the branch. */
function residual(call: KernelCall): TensorInfo[] {
  const { backend } = call;
  const { x, branch = need(call, 'dy') } = call.inputs;
  const y = backend.make(branch.shape, 'bf16');
  const n = util.sizeFromShape(branch.shape);
  const inputs = [pointer(x ? backend.bf16(x) : 0), pointer(backend.bf16(branch))];
  const args = [pointer(backend.address(y)), ...inputs, f32(call.attrs.multiplier as number), i64(n)];
  backend.launch('elementwise.cu', 'residual', { grid: [Math.ceil(n / 2048)], block: 256 }, args);
  return [y];
}

function swiGlu(call: KernelCall): TensorInfo[] {
  const [gate, up] = [need(call, 'gate'), need(call, 'up')];
  const { backend } = call;
  const n = util.sizeFromShape(gate.shape);
  const y = backend.make(gate.shape, 'bf16');
  const args = [pointer(backend.address(y)), pointer(backend.bf16(gate)), pointer(backend.bf16(up)), i64(n)];
  backend.launch('transformer.cu', 'swiglu', { grid: [Math.ceil(n / 2048)], block: 256 }, args);
  return [y];
}

function swiGluGrad(call: KernelCall): TensorInfo[] {
  const { backend } = call;
  const gate = need(call, 'gate');
  const n = util.sizeFromShape(gate.shape);
  const [dGate, dUp] = [backend.make(gate.shape, 'bf16'), backend.make(gate.shape, 'bf16')];
  const inputs = [gate, need(call, 'up'), need(call, 'dy')].map((t) => pointer(backend.bf16(t)));
  const args = [pointer(backend.address(dGate)), pointer(backend.address(dUp)), ...inputs, i64(n)];
  backend.launch('transformer.cu', 'swiglu_grad', { grid: [Math.ceil(n / 2048)], block: 256 }, args);
  return [dGate, dUp];
}

function rotary(call: KernelCall): TensorInfo[] {
  const { backend } = call;
  const x = need(call, 'x');
  const [tokens, heads, dim] = x.shape as [number, number, number];
  const { cuSeqlens, firstPositions, inverseFrequencies, inverse } = call.attrs as {
    cuSeqlens: Int32Array;
    firstPositions: Int32Array;
    inverseFrequencies: Float64Array;
    inverse: boolean;
  };
  const documents = cuSeqlens.length - 1;
  const y = backend.make(x.shape, 'bf16');
  backend.withScratch((scratch) => {
    const perDocument = inverseFrequencies.length > dim / 2 ? 1 : 0;
    const half = dim / 2;
    const block = Math.min(1024, half * Math.max(1, Math.floor(256 / half)));
    backend.launch('transformer.cu', 'rotary', { grid: [tokens], block }, [
      pointer(backend.address(y)),
      pointer(backend.bf16(x)),
      pointer(scratch.upload(Int32Array.from(cuSeqlens))),
      pointer(scratch.upload(Int32Array.from(firstPositions))),
      pointer(scratch.upload(Float64Array.from(inverseFrequencies))),
      i32(documents),
      i32(perDocument),
      i32(heads),
      i32(dim),
      f32(inverse ? -1 : 1),
    ]);
  });
  return [y];
}

function embedding(call: KernelCall): TensorInfo[] {
  const { backend } = call;
  const [tokens, weight] = [need(call, 'tokens'), need(call, 'weight')];
  const columns = weight.shape[1]!;
  const n = util.sizeFromShape(tokens.shape);
  const y = backend.make([...tokens.shape, columns], 'bf16');
  backend.withScratch((scratch) => {
    const args = [pointer(backend.address(y)), pointer(backend.address(tokens)), pointer(backend.f32(weight, scratch))];
    backend.launch('transformer.cu', 'embedding', { grid: [n], block: 256 }, [...args, i32(columns)]);
  });
  return [y];
}

/** Positions sorted by token, stably, so that each token's sum is taken in one order: a counting sort on the host. */
function byToken(tokens: Int32Array): { token: Int32Array; start: Int32Array; order: Int32Array } {
  const order = Int32Array.from(tokens.keys());
  order.sort((a, b) => tokens[a]! - tokens[b]! || a - b);
  const token: number[] = [];
  const start: number[] = [];
  order.forEach((at, i) => {
    if (i > 0 && tokens[order[i - 1]!] === tokens[at]) return;
    token.push(tokens[at]!);
    start.push(i);
  });
  start.push(order.length);
  return { token: Int32Array.from(token), start: Int32Array.from(start), order };
}

function embeddingGrad(call: KernelCall): TensorInfo[] {
  const { backend } = call;
  const [tokens, dy] = [need(call, 'tokens'), need(call, 'dy')];
  const columns = dy.shape[dy.shape.length - 1]!;
  const vocabulary = call.attrs.vocabSize as number;
  const dWeight = backend.make([vocabulary, columns], 'f32');
  fillAt(backend, backend.address(dWeight), 'f32', 0, vocabulary * columns);
  const { token, start, order } = byToken(backend.readSync(tokens.dataId) as Int32Array);
  backend.withScratch((scratch) => {
    const lists = [token, start, order].map((list) => pointer(scratch.upload(list)));
    const args = [pointer(backend.address(dWeight)), pointer(backend.bf16(dy)), ...lists, i32(columns)];
    backend.launch('transformer.cu', 'embedding_grad', { grid: [token.length], block: 256 }, args);
  });
  return [dWeight];
}

function remainderBias(call: KernelCall): TensorInfo[] {
  const { backend } = call;
  const output = need(call, 'output');
  const [, heads, dim] = output.shape as [number, number, number];
  const n = util.sizeFromShape(output.shape);
  const y = backend.make(output.shape, 'bf16');
  backend.withScratch((scratch) => {
    const args = [pointer(backend.address(y)), pointer(backend.bf16(output))];
    const floats = ['remainder', 'bias'].map((name) => pointer(backend.f32(need(call, name), scratch)));
    const all = [...args, ...floats, i64(n), i32(heads), i32(dim)];
    backend.launch('transformer.cu', 'remainder_bias', { grid: [spread(n)], block: 256 }, all);
  });
  return [y];
}

function remainderBiasGrad(call: KernelCall): TensorInfo[] {
  const { backend } = call;
  const dy = need(call, 'dy');
  const [tokens, heads, dim] = dy.shape as [number, number, number];
  const columns = heads * dim;
  const [dRemainder, dBias] = [backend.make([tokens, heads], 'f32'), backend.make([heads, dim], 'f32')];
  backend.withScratch((scratch) => {
    const gradient = pointer(backend.bf16(dy));
    const bias = pointer(backend.f32(need(call, 'bias'), scratch));
    const remainder = pointer(backend.f32(need(call, 'remainder'), scratch));
    backend.launch('transformer.cu', 'remainder_bias_dr', { grid: [Math.ceil((tokens * heads) / 8)], block: 256 }, [
      pointer(backend.address(dRemainder)),
      bias,
      gradient,
      i64(tokens * heads),
      i32(heads),
      i32(dim),
    ]);
    const partial = scratch.allocate(PARTS * columns * 4);
    backend.launch('transformer.cu', 'remainder_bias_db', { grid: [Math.ceil(columns / 128), PARTS], block: 128 }, [
      pointer(partial),
      remainder,
      gradient,
      i64(tokens),
      i32(heads),
      i32(dim),
    ]);
    sumPartials(backend, backend.address(dBias), partial, PARTS, columns);
  });
  return [dRemainder, dBias];
}

export const transformerKernels: KernelTable = {
  RMSNorm: rmsNorm,
  RMSNormGrad: rmsNormGrad,
  HeadNorm: headNorm,
  HeadNormGrad: headNormGrad,
  Residual: residual,
  ResidualGrad: residual,
  SwiGLU: swiGlu,
  SwiGLUGrad: swiGluGrad,
  RotaryEmbedding: rotary,
  Embedding: embedding,
  EmbeddingGrad: embeddingGrad,
  RemainderBias: remainderBias,
  RemainderBiasGrad: remainderBiasGrad,
};
