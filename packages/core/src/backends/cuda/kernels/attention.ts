/** Which kernels serve attention: the fused ones, matrix products for head dimensions above theirs and for FIRE's bias. */
import { type Tensor, type TensorInfo, tidy } from '@tensorflow/tfjs-core';
import type { SoftmaxAttributes } from '../../../kernels.js';
import { softmaxAttention } from '../../../reference/softmax.js';
import { softmaxAttentionGrad } from '../../../reference/softmax_grad.js';
import type { CudaKernel, KernelCall, KernelTable } from './define.js';
import { fireSoftmax, fireSoftmaxGrad, servesFire } from './fire_attention.js';
import {
  servesAttention,
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
function withFire(others: CudaKernel, fire: CudaKernel, reference: Reference): CudaKernel {
  return (call: KernelCall): TensorInfo | TensorInfo[] => {
    if ((call.attrs as Partial<SoftmaxAttributes>).bias !== 'fire') return others(call);
    if (servesFire(call)) return fire(call);
    return tidy(() => reference(call.inputs as never, call.attrs as never));
  };
}

export const attentionKernels: KernelTable = {
  StickBreakingAttention: choose(stickBreakingForward, plainStickBreaking),
  StickBreakingAttentionGrad: choose(stickBreakingBackward, plainStickBreakingGrad),
  SoftmaxAttention: withFire(choose(softmaxForward, plainSoftmax), fireSoftmax, softmaxAttention as Reference),
  SoftmaxAttentionGrad: withFire(
    choose(softmaxBackward, plainSoftmaxGrad),
    fireSoftmaxGrad,
    softmaxAttentionGrad as Reference,
  ),
};
