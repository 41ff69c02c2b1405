/**
 * Head and cross-entropy in one op, a chunk of tokens at a time: logits [chunk, vocabulary] are all that is ever held of
 * them. The chunk is float32, since bfloat16 logits around 10 cost the gradient one per cent (measured). Where the gradient
 * follows, one pass over a chunk makes the loss and the logits' gradient, for a loss whose own gradient is one; it is kept
 * in bfloat16, and the backward is two matmuls over all tokens. Where it would be too large, the backward makes each
 * chunk's logits again (about 2 % of a step) and multiplies from there; the weight's gradient adds up in float32.
 */
import type { CrossEntropyAttributes, KernelInputs } from '@stickbreaking/core/backend';
import type { CudaBackend } from '../backend.js';
import type { Product } from '../cublaslt.js';
import { type Argument, f32, i32, pointer } from '../launch.js';
import { makeMatrix, matrixOf } from '../matrix.js';
import { type Matrix, roundUp } from '../rows.js';
import type { Scratch } from '../scratch.js';
import type { CudaKernel, CudaKernels } from './define.js';
import { fillAt } from './elementwise.js';
import { takeBlank, writableSum } from './matmul.js';

const CHUNK_BYTES = 256 * 2 ** 20;
/** The logits' gradient is kept up to here. */
const KEPT_BYTES = 2 ** 31;
const BOTH_THREADS = 1024;

interface Head {
  tokens: number;
  width: number;
  vocabulary: number;
  /** Row length of the logits' buffer: the vocabulary, rounded up for aligned rows. */
  stride: number;
  /** Columns of logits that are made: all of a row where the weight has as many rows in memory. */
  made: number;
  chunk: number;
  hidden: number;
  weight: number;
  targets: number;
  settings: Argument[];
}

function head(
  { hidden, weight, targets }: KernelInputs<'LinearCrossEntropy'>,
  { logitScale, ignoreIndex }: CrossEntropyAttributes,
  backend: CudaBackend,
): Head {
  const [tokens, width] = hidden.shape as [number, number];
  const vocabulary = weight.shape[0]!;
  const stride = roundUp(vocabulary);
  const weightAddress = backend.bf16(weight);
  const most = Math.max(1, Math.floor(CHUNK_BYTES / 4 / stride));
  const chunk = Math.min(tokens, most > 256 ? most - (most % 256) : most);
  return {
    tokens,
    width,
    vocabulary,
    stride,
    chunk,
    hidden: backend.bf16(hidden),
    weight: weightAddress,
    made: matrixOf(backend, weight).rows >= stride ? stride : vocabulary,
    targets: backend.address(targets),
    settings: [i32(vocabulary), i32(stride), f32(logitScale), i32(ignoreIndex)],
  };
}

/** Makes the logits of the chunk that starts at token `from` and hands them on. */
function eachChunk(
  backend: CudaBackend,
  h: Head,
  scratch: Scratch,
  use: (logits: number, from: number, rows: number) => void,
): void {
  const logits = scratch.allocate(h.chunk * h.stride * 4);
  for (let from = 0; from < h.tokens; from += h.chunk) {
    const rows = Math.min(h.chunk, h.tokens - from);
    backend.matmul(h.hidden + from * h.width * 2, h.weight, logits, {
      m: rows,
      n: h.made,
      k: h.width,
      transposeA: false,
      transposeB: true,
      ldc: h.stride,
      output: 'f32',
    });
    use(logits, from, rows);
  }
}

const linearCrossEntropy: CudaKernel<'LinearCrossEntropy'> = (inputs, attrs, backend) => {
  const h = head(inputs, attrs, backend);
  const [loss, logSumExp] = [backend.make([h.tokens], 'f32'), backend.make([h.tokens], 'f32')];
  const keptBytes = h.tokens * h.stride * 2;
  const likeliest = attrs.likeliest ? backend.make([h.tokens], 'f32') : undefined;
  const kept = attrs.gradientFollows && keptBytes <= KEPT_BYTES ? backend.makeOpaque(keptBytes) : undefined;
  // Between its two passes a row stays in shared memory where that holds it.
  const shared = h.stride * 4 + 512 <= backend.driver.sharedPerBlock ? h.stride * 4 : 0;
  backend.withScratch((scratch) =>
    eachChunk(backend, h, scratch, (logits, from, rows) => {
      const results = [loss, logSumExp].map((one) => pointer(backend.address(one) + from * 4));
      const rest = [pointer(logits), pointer(h.targets + from * 4), ...h.settings];
      if (!kept) {
        const third = pointer(likeliest ? backend.address(likeliest) + from * 4 : 0);
        backend.launch('loss.cu', 'cross_entropy', { grid: [rows], block: 512 }, [...results, third, ...rest]);
        return;
      }
      const dLogits = pointer(backend.address(kept) + from * h.stride * 2);
      const name = shared > 0 ? 'cross_entropy_both' : 'cross_entropy_both_long';
      const shape = { grid: [rows], block: BOTH_THREADS, shared } as const;
      backend.launch('loss.cu', name, shape, [...results, dLogits, ...rest]);
    }),
  );
  const third = kept ?? likeliest;
  return third ? [loss, logSumExp, third] : [loss, logSumExp];
};

const linearCrossEntropyGrad: CudaKernel<'LinearCrossEntropyGrad'> = (inputs, attrs, backend) => {
  const h = head(inputs, attrs, backend);
  const { sum, saved } = inputs;
  const dHidden = backend.make([h.tokens, h.width], 'bf16');
  const extent = { rows: h.made, columns: h.width };
  const wasBlank = sum !== undefined && h.tokens > 0 && takeBlank(backend, [sum]);
  const dWeight = sum ? writableSum(backend, sum) : makeMatrix(backend, [h.vocabulary, h.width], 'f32', extent);
  if (h.tokens === 0) {
    if (!sum) fillAt(backend, backend.address(dWeight), 'f32', 0, h.vocabulary * h.width);
    return [dHidden, dWeight];
  }
  const target = matrixOf(backend, dWeight);
  const { m, n } = weightProduct(h, h.tokens, target);
  const isWhole = m === target.rows && n === target.stride;
  if (wasBlank && !isWhole) backend.writeZeros(backend.stored(dWeight));
  const beta = sum && !(wasBlank && isWhole) ? 1 : 0;
  const results = { dHidden: backend.address(dHidden), dWeight: target, beta } as const;
  backend.withScratch((scratch) => {
    const dLoss = backend.f32(inputs.dLoss, scratch);
    if (saved) return fromKept(backend, h, scratch, backend.address(saved), dLoss, attrs.ignoreIndex, results);
    const logSumExp = backend.f32(inputs.logSumExp, scratch);
    const dLogits = scratch.allocate(h.chunk * h.stride * 2);
    eachChunk(backend, h, scratch, (logits, from, rows) => {
      backend.launch('loss.cu', 'cross_entropy_grad', { grid: [rows], block: 512 }, [
        pointer(dLogits),
        pointer(logits),
        pointer(h.targets + from * 4),
        pointer(logSumExp + from * 4),
        pointer(dLoss + from * 4),
        ...h.settings,
      ]);
      const at = from * h.width * 2;
      backend.matmul(dLogits, h.weight, results.dHidden + at, hiddenProduct(h, rows));
      backend.matmul(dLogits, h.hidden + at, results.dWeight.address, {
        ...weightProduct(h, rows, results.dWeight),
        beta: from > 0 ? 1 : results.beta,
      });
    });
  });
  return [dHidden, dWeight];
};

/** The gradients from what the forward kept. In training all rows have the same dLoss: then it is a factor of the matmuls. */
function fromKept(
  backend: CudaBackend,
  h: Head,
  scratch: Scratch,
  dLogits: number,
  dLoss: number,
  ignoreIndex: number,
  { dHidden, dWeight, beta }: { dHidden: number; dWeight: Matrix; beta: 0 | 1 },
): void {
  const [alpha, share] = [scratch.allocate(4), scratch.allocate(h.tokens * 4)];
  backend.launch('loss.cu', 'loss_factors', { grid: [1], block: 1024 }, [
    pointer(alpha),
    pointer(share),
    pointer(dLoss),
    pointer(h.targets),
    i32(h.tokens),
    i32(ignoreIndex),
  ]);
  const shareRows = (y: number, x: number) =>
    backend.launch('loss.cu', 'share_rows', { grid: [h.tokens], block: 128 }, [
      pointer(y),
      pointer(x),
      pointer(share),
      i32(h.width),
    ]);
  backend.matmul(dLogits, h.weight, dHidden, { ...hiddenProduct(h, h.tokens), alpha });
  shareRows(dHidden, dHidden);
  const hidden = scratch.allocate(h.tokens * h.width * 2);
  shareRows(hidden, h.hidden);
  backend.matmul(dLogits, hidden, dWeight.address, { ...weightProduct(h, h.tokens, dWeight), alpha, beta });
}

function hiddenProduct(h: Head, rows: number): Product {
  const { width: n, made: k, stride: lda } = h;
  return { m: rows, n, k, transposeA: false, transposeB: false, lda, output: 'bf16' };
}

function weightProduct(h: Head, rows: number, target: Matrix): Product {
  const { width: n, vocabulary, stride: lda } = h;
  const m = target.rows >= h.stride ? h.stride : vocabulary;
  return { m, n, k: rows, transposeA: true, transposeB: false, lda, ldc: target.stride, output: 'f32' };
}

export const lossKernels = {
  LinearCrossEntropy: linearCrossEntropy,
  LinearCrossEntropyGrad: linearCrossEntropyGrad,
} satisfies CudaKernels;
