/** RoPE and softmax attention one after the other, each by the kernel that the active backend has for it. */
import { engine, type NamedAttrMap, type NamedTensorMap } from '@tensorflow/tfjs-core';
import type { KernelAttributes, KernelName, Kernels, ReferenceKernel } from '../kernels.js';

export const rotarySoftmaxAttention: ReferenceKernel<'RotarySoftmaxAttention'> = ({ q, k, v }, attrs) => {
  const { rotary, consumed: _, ...softmax } = attrs;
  const [turnedQ, turnedK] = run('RotaryEmbedding', { q, k }, rotary);
  const [output, logSumExp] = run('SoftmaxAttention', { q: turnedQ, k: turnedK, v }, softmax);
  return [output, logSumExp, turnedQ, turnedK];
};

export const rotarySoftmaxAttentionGrad: ReferenceKernel<'RotarySoftmaxAttentionGrad'> = (inputs, attrs) => {
  const { rotary, ...softmax } = attrs;
  const [dq, dk, dv] = run('SoftmaxAttentionGrad', inputs, softmax);
  return [...run('RotaryEmbedding', { q: dq, k: dk }, { ...rotary, inverse: !rotary.inverse }), dv];
};

function run<Name extends KernelName>(
  name: Name,
  inputs: Kernels[Name]['inputs'],
  attrs: KernelAttributes<Name>,
): Kernels[Name]['outputs'] {
  const outputs: unknown = engine().runKernel(
    name,
    inputs as unknown as NamedTensorMap,
    attrs as unknown as NamedAttrMap,
  );
  return outputs as Kernels[Name]['outputs'];
}
