/** Chooses the attention kernels: the fused ones, or matmuls for larger head dimensions. */
import { type KernelInputs, runReference, type SoftmaxAttributes } from '@stickbreaking/core/backend';
import type { CudaBackend } from '../backend.js';
import type { CudaKernel, CudaKernels } from './define.js';
import { fireSoftmax, fireSoftmaxGrad, servesFire } from './fire_attention.js';
import {
  fartherBackward,
  fartherForward,
  rotarySoftmaxBackward,
  rotarySoftmaxForward,
  servesAttention,
  servesFusedFire,
  softmaxBackward,
  softmaxForward,
  stickBreakingBackward,
  stickBreakingForward,
} from './flash_attention.js';
import { plainSoftmax, plainSoftmaxGrad, plainStickBreaking, plainStickBreakingGrad } from './plain_attention.js';

const softmax: CudaKernel<'SoftmaxAttention'> = (...call) => {
  switch (softmaxBy(...call)) {
    case 'fused':
      return softmaxForward(...call);
    case 'products':
      return plainSoftmax(...call);
    case 'products with FIRE':
      return fireSoftmax(...call);
    case 'reference':
      return runReference('SoftmaxAttention', call[0], call[1]);
  }
};

const softmaxGrad: CudaKernel<'SoftmaxAttentionGrad'> = (...call) => {
  switch (softmaxBy(...call)) {
    case 'fused':
      return softmaxBackward(...call);
    case 'products':
      return plainSoftmaxGrad(...call);
    case 'products with FIRE':
      return fireSoftmaxGrad(...call);
    case 'reference':
      return runReference('SoftmaxAttentionGrad', call[0], call[1]);
  }
};

/** FIRE's bias comes from a small network of its own; a very wide one is left to the reference in tfjs ops. */
function softmaxBy(inputs: KernelInputs<'SoftmaxAttention'>, { bias }: SoftmaxAttributes, backend: CudaBackend) {
  if (bias === 'keys') return servesAttention(inputs.q) ? 'fused' : 'reference';
  if (bias !== 'fire') return servesAttention(inputs.q) ? 'fused' : 'products';
  if (servesFusedFire(inputs, backend)) return 'fused';
  return servesFire(inputs) ? 'products with FIRE' : 'reference';
}

/** RoPE where the gradients are written, if the fused kernels write them; else by kernels of its own. */
const rotarySoftmax: CudaKernel<'RotarySoftmaxAttention'> = (inputs, attrs, backend) =>
  servesAttention(inputs.q)
    ? rotarySoftmaxForward(inputs, attrs, backend)
    : runReference('RotarySoftmaxAttention', inputs, attrs);

const rotarySoftmaxGrad: CudaKernel<'RotarySoftmaxAttentionGrad'> = (inputs, attrs, backend) =>
  servesAttention(inputs.q)
    ? rotarySoftmaxBackward(inputs, attrs, backend)
    : runReference('RotarySoftmaxAttentionGrad', inputs, attrs);

export const attentionKernels = {
  StickBreakingAttention: (...call) =>
    (servesAttention(call[0].q) ? stickBreakingForward : plainStickBreaking)(...call),
  StickBreakingAttentionGrad: (...call) =>
    (servesAttention(call[0].q) ? stickBreakingBackward : plainStickBreakingGrad)(...call),
  // The reference has larger head dimensions: matmuls over blocks do not know what nearer keys have left.
  StickBreakingFarther: (inputs, attrs, backend) =>
    servesAttention(inputs.q)
      ? fartherForward(inputs, attrs, backend)
      : runReference('StickBreakingFarther', inputs, attrs),
  StickBreakingFartherGrad: (inputs, attrs, backend) =>
    servesAttention(inputs.q)
      ? fartherBackward(inputs, attrs, backend)
      : runReference('StickBreakingFartherGrad', inputs, attrs),
  SoftmaxAttention: softmax,
  RotarySoftmaxAttention: rotarySoftmax,
  RotarySoftmaxAttentionGrad: rotarySoftmaxGrad,
  SoftmaxAttentionGrad: softmaxGrad,
} satisfies CudaKernels;
