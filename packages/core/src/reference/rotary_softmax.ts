/** RoPE and softmax attention one after the other, each by the kernel that the active backend has for it. */
import type { ReferenceKernel } from '../kernels.js';
import { activeKernel } from './active_kernel.js';

export const rotarySoftmaxAttention: ReferenceKernel<'RotarySoftmaxAttention'> = ({ q, k, v }, attrs) => {
  const { rotary, consumed: _, ...softmax } = attrs;
  const [turnedQ, turnedK] = activeKernel('RotaryEmbedding', { q, k }, rotary);
  const [output, logSumExp] = activeKernel('SoftmaxAttention', { q: turnedQ, k: turnedK, v }, softmax);
  return [output, logSumExp, turnedQ, turnedK];
};

export const rotarySoftmaxAttentionGrad: ReferenceKernel<'RotarySoftmaxAttentionGrad'> = (inputs, attrs) => {
  const { rotary, ...softmax } = attrs;
  const [dq, dk, dv] = activeKernel('SoftmaxAttentionGrad', inputs, softmax);
  return [...activeKernel('RotaryEmbedding', { q: dq, k: dk }, { ...rotary, inverse: !rotary.inverse }), dv];
};
