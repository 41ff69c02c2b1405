/** Which kernels serve attention: the fused ones on Hopper, matrix products elsewhere and for other head dimensions. */
import { type Tensor, type TensorInfo, tidy } from '@tensorflow/tfjs-core';
import type { SoftmaxAttributes } from '../../../kernels.js';
import { softmaxAttention } from '../../../reference/softmax.js';
import { softmaxAttentionGrad } from '../../../reference/softmax_grad.js';
import type { CudaKernel, KernelCall, KernelTable } from './define.js';
import {
  servesAttention,
  softmaxBackward,
  softmaxForward,
  stickBreakingBackward,
  stickBreakingForward,
} from './flash_attention.js';
import { plainSoftmax, plainSoftmaxGrad, plainStickBreaking, plainStickBreakingGrad } from './plain_attention.js';

type Reference = (inputs: never, attrs: never) => Tensor[];

function choose(fused: CudaKernel, plain: CudaKernel, reference?: Reference): CudaKernel {
  return (call: KernelCall): TensorInfo | TensorInfo[] => {
    // FIRE's bias comes from a small network of its own: the reference in tfjs ops serves it.
    if (reference && (call.attrs as Partial<SoftmaxAttributes>).bias === 'fire') {
      return tidy(() => reference(call.inputs as never, call.attrs as never));
    }
    return servesAttention(call) ? fused(call) : plain(call);
  };
}

export const attentionKernels: KernelTable = {
  StickBreakingAttention: choose(stickBreakingForward, plainStickBreaking),
  StickBreakingAttentionGrad: choose(stickBreakingBackward, plainStickBreakingGrad),
  SoftmaxAttention: choose(softmaxForward, plainSoftmax, softmaxAttention as Reference),
  SoftmaxAttentionGrad: choose(softmaxBackward, plainSoftmaxGrad, softmaxAttentionGrad as Reference),
};
