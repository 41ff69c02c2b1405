/** Which kernels serve attention: the fused ones, matrix products for head dimensions above theirs. */

import type { SoftmaxAttributes } from '@stickbreaking/core/backend';
import { referenceKernels } from '@stickbreaking/core/backend';
import { type Tensor, type TensorInfo, tidy } from '@tensorflow/tfjs-core';
import type { CudaKernel, KernelCall, KernelTable } from './define.js';
import { fireSoftmax, fireSoftmaxGrad, servesFire } from './fire_attention.js';
import {
  servesAttention,
  servesFusedFire,
  softmaxBackward,
  softmaxForward,
  stickBreakingBackward,
  stickBreakingForward,
} from './flash_attention.js';
import { plainSoftmax, plainSoftmaxGrad, plainStickBreaking, plainStickBreakingGrad } from './plain_attention.js';

type Reference = (inputs: never, attrs: never) => Tensor[];

function choose(fused: CudaKernel, plain: CudaKernel): CudaKernel {
  return (call) => (servesAttention(call) ? fused(call) : plain(call));
}

/** FIRE's bias comes from a small network of its own; a very wide one is left to the reference in tfjs ops. */
function withFire(fused: CudaKernel, plain: CudaKernel, plainFire: CudaKernel, reference: Reference): CudaKernel {
  const others = choose(fused, plain);
  return (call: KernelCall): TensorInfo | TensorInfo[] => {
    if ((call.attrs as Partial<SoftmaxAttributes>).bias !== 'fire') return others(call);
    if (servesFusedFire(call)) return fused(call);
    if (servesFire(call)) return plainFire(call);
    return tidy(() => reference(call.inputs as never, call.attrs as never));
  };
}

export const attentionKernels: KernelTable = {
  StickBreakingAttention: choose(stickBreakingForward, plainStickBreaking),
  StickBreakingAttentionGrad: choose(stickBreakingBackward, plainStickBreakingGrad),
  SoftmaxAttention: withFire(softmaxForward, plainSoftmax, fireSoftmax, referenceKernels.SoftmaxAttention as Reference),
  SoftmaxAttentionGrad: withFire(
    softmaxBackward,
    plainSoftmaxGrad,
    fireSoftmaxGrad,
    referenceKernels.SoftmaxAttentionGrad as Reference,
  ),
};
