/**
 * Head and cross-entropy in one op, a chunk of tokens at a time: logits [chunk, vocabulary] are all that is ever held of
 * [N, vocabulary]. The chunk is float32, since bfloat16 logits around 10 cost the gradient one per cent (measured). The
 * backward pass makes each chunk's logits again (about 2 % of a step), turns them into their gradient in bfloat16 and
 * multiplies from there; the weight's gradient adds up in float32.
 */
import type { CrossEntropyAttributes, KernelInputs } from '@stickbreaking/core/backend';
import type { CudaBackend, Scratch } from '../backend.js';
import { type Argument, f32, i32, pointer } from '../driver.js';
import type { CudaKernel, CudaKernels } from './define.js';
import { fillAt } from './elementwise.js';

const CHUNK_BYTES = 512 * 2 ** 20;

interface Head {
  tokens: number;
  width: number;
  vocabulary: number;
  /** Row length of the logits' buffer: the vocabulary, rounded up for aligned rows. */
  stride: number;
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
  const stride = Math.ceil(vocabulary / 8) * 8;
  const most = Math.max(1, Math.floor(CHUNK_BYTES / 4 / stride));
  const chunk = Math.min(tokens, most > 256 ? most - (most % 256) : most);
  return {
    tokens,
    width,
    vocabulary,
    stride,
    chunk,
    hidden: backend.bf16(hidden),
    weight: backend.bf16(weight),
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
      n: h.vocabulary,
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
  backend.withScratch((scratch) =>
    eachChunk(backend, h, scratch, (logits, from, rows) =>
      backend.launch('loss.cu', 'cross_entropy', { grid: [rows], block: 512 }, [
        pointer(backend.address(loss) + from * 4),
        pointer(backend.address(logSumExp) + from * 4),
        pointer(logits),
        pointer(h.targets + from * 4),
        ...h.settings,
      ]),
    ),
  );
  return [loss, logSumExp];
};

const linearCrossEntropyGrad: CudaKernel<'LinearCrossEntropyGrad'> = (inputs, attrs, backend) => {
  const h = head(inputs, attrs, backend);
  const dHidden = backend.make([h.tokens, h.width], 'bf16');
  const dWeight = backend.make([h.vocabulary, h.width], 'f32');
  if (h.tokens === 0) fillAt(backend, backend.address(dWeight), 'f32', 0, h.vocabulary * h.width);
  backend.withScratch((scratch) => {
    const logSumExp = backend.f32(inputs.logSumExp, scratch);
    const dLoss = backend.f32(inputs.dLoss, scratch);
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
      backend.matmul(dLogits, h.weight, backend.address(dHidden) + at, {
        m: rows,
        n: h.width,
        k: h.vocabulary,
        transposeA: false,
        transposeB: false,
        lda: h.stride,
        output: 'bf16',
      });
      backend.matmul(dLogits, h.hidden + at, backend.address(dWeight), {
        m: h.vocabulary,
        n: h.width,
        k: rows,
        transposeA: true,
        transposeB: false,
        lda: h.stride,
        output: 'f32',
        beta: from > 0 ? 1 : 0,
      });
    });
  });
  return [dHidden, dWeight];
};

export const lossKernels = {
  LinearCrossEntropy: linearCrossEntropy,
  LinearCrossEntropyGrad: linearCrossEntropyGrad,
} satisfies CudaKernels;
