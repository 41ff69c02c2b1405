/**
 * The fused attention kernels (flash_forward.cu; flash_backward.cu, or flash_backward_queries.cu and flash_backward_keys.cu):
 * logits never leave the chip, memory is linear in the number of tokens, results are the same in every run. Hopper has its
 * own matrix instructions, larger blocks and a backward in one kernel; other GPUs get the same kernels with `mma.sync`.
 */
import type {
  KernelInputs,
  KernelOutputs,
  RotaryAttributes,
  SoftmaxAttributes,
  StickBreakingAttributes,
} from '@stickbreaking/core/backend';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { MOST_UNITS } from '../kernel_interface.js';
import { areBeside } from '../matrix.js';
import type { CudaKernel } from './define.js';
import { BACKWARD_QUERIES, DIMENSIONS, kernelDimension, sharedBytes } from './flash_blocks.js';
import { FlashCall } from './flash_call.js';
import { turnBoth } from './rotary.js';

/** Whether these kernels serve the call; plain_attention.ts serves the rest. */
export function servesAttention(q: TensorInfo): boolean {
  const [queries, , headDim] = q.shape as [number, number, number];
  return headDim <= DIMENSIONS[DIMENSIONS.length - 1]! && queries > 0;
}

/** Whether calls with FIRE's bias are kept from these kernels, to compare the two. */
export const plainFire = () => process.env.STICKBREAKING_FIRE === 'plain';

/** The same for a call with FIRE's bias: every warp of the queries' backward keeps sums of each segment. */
export function servesFusedFire({ q, fireW1 }: KernelInputs<'SoftmaxAttention'>, backend: CudaBackend): boolean {
  if (plainFire() || !servesAttention(q)) return false;
  const units = fireW1!.shape[0]!;
  const shared = sharedBytes(
    BACKWARD_QUERIES,
    { mechanism: 'softmax', bias: 'fire', dim: kernelDimension(q.shape[2]!), hopper: backend.hopper },
    units,
  );
  return units <= MOST_UNITS && shared <= backend.driver.sharedPerBlock;
}

export const stickBreakingForward: CudaKernel<'StickBreakingAttention'> = (inputs, attrs, backend) =>
  stickForward(inputs, attrs, backend);

/** Of keys that are all farther than those attended to before. */
export const fartherForward: CudaKernel<'StickBreakingFarther'> = ({ stick, ...inputs }, attrs, backend) =>
  stickForward(inputs, { ...attrs, attendCurrent: false }, backend, stick);

/** @param stick what nearer keys have left of each row's stick; default: whole sticks */
function stickForward(
  inputs: KernelInputs<'StickBreakingAttention'>,
  attrs: StickBreakingAttributes,
  backend: CudaBackend,
  stick?: TensorInfo,
): KernelOutputs<'StickBreakingAttention'> {
  return backend.withScratch((scratch) => {
    const a = new FlashCall('stick-breaking', inputs, attrs, backend, scratch, stick !== undefined);
    const remainder = backend.make([a.queries, a.heads], 'f32');
    const saved = backend.makeOpaque(a.savedBytes);
    const out = a.tensors.result(inputs.q.shape);
    a.forward({
      ...a.tensors.operands(inputs),
      out: out.address,
      rowOutput: backend.address(remainder),
      ...(stick && { dRemainder: backend.f32(stick, scratch) }),
      saved: backend.address(saved),
    });
    return [out.finish(), remainder, saved];
  });
}

export const stickBreakingBackward: CudaKernel<'StickBreakingAttentionGrad'> = (inputs, attrs, backend) =>
  backend.withScratch((scratch) => {
    const a = new FlashCall('stick-breaking', inputs, attrs, backend, scratch);
    const { addresses, finish } = a.tensors.gradients(inputs);
    a.backward({
      ...a.tensors.operands(inputs),
      ...addresses,
      rowOutput: backend.f32(inputs.remainder, scratch),
      dRemainder: backend.f32(inputs.dRemainder, scratch),
      saved: backend.address(inputs.saved),
      dOutput: a.tensors.input(inputs.dOutput),
    });
    return finish();
  });

export const fartherBackward: CudaKernel<'StickBreakingFartherGrad'> = (inputs, attrs, backend) =>
  backend.withScratch((scratch) => {
    const a = new FlashCall('stick-breaking', inputs, { ...attrs, attendCurrent: false }, backend, scratch, true);
    const { addresses, finish } = a.tensors.gradients(inputs);
    const nearer = backend.make([a.queries, a.heads], 'f32');
    a.backward({
      ...a.tensors.operands(inputs),
      ...addresses,
      rowOutput: backend.address(nearer),
      dRemainder: backend.f32(inputs.farther, scratch),
      saved: backend.address(inputs.saved),
      dOutput: a.tensors.input(inputs.dOutput),
    });
    return [...finish(), nearer];
  });

export const softmaxForward: CudaKernel<'SoftmaxAttention'> = (inputs, attrs, backend) =>
  backend.withScratch((scratch) => {
    const a = new FlashCall('softmax', inputs, attrs, backend, scratch);
    const logSumExp = backend.make([a.queries, a.heads], 'f32');
    const out = a.tensors.result(inputs.q.shape);
    a.forward({
      ...a.tensors.operands(inputs),
      out: out.address,
      rowOutput: backend.address(logSumExp),
      slopes: a.tensors.slopes(),
      keyBias: a.tensors.keyBias(inputs.keyBias),
    });
    return [out.finish(), logSumExp];
  });

/** A rotary embedding of q and k before it; where they are consumed and lie side by side with v, in place. */
export const rotarySoftmaxForward: CudaKernel<'RotarySoftmaxAttention'> = (inputs, attrs, backend) => {
  const { rotary, consumed, ...softmax } = attrs;
  const { q, k, v } = inputs;
  const [turnedQ, turnedK] = turnBoth({ q, k }, rotary, backend, consumed && areBeside(backend, [q, k, v]));
  const [output, logSumExp] = softmaxForward({ q: turnedQ, k: turnedK, v }, softmax, backend);
  return [output, logSumExp, turnedQ, turnedK];
};

export const softmaxBackward: CudaKernel<'SoftmaxAttentionGrad'> = (inputs, attrs, backend) =>
  softmaxGradients(inputs, attrs, backend);

/** The same of q and k as they were before a rotary embedding. */
export const rotarySoftmaxBackward: CudaKernel<'RotarySoftmaxAttentionGrad'> = (inputs, attrs, backend) => {
  const { rotary, ...softmax } = attrs;
  const headDim = inputs.q.shape[2]!;
  // Pairs lie half a head apart, also where the kernels' heads are filled up.
  if (kernelDimension(headDim) === headDim && !rotary.inverse) {
    const [dq, dk, dv] = softmaxGradients(inputs, softmax, backend, rotary);
    return [dq, dk, dv];
  }
  const [dq, dk, dv] = softmaxGradients(inputs, softmax, backend);
  const turned = turnBoth({ q: dq, k: dk }, { ...rotary, inverse: !rotary.inverse }, backend);
  for (const { dataId } of [dq, dk]) backend.disposeData(dataId);
  return [...turned, dv];
};

function softmaxGradients(
  inputs: KernelInputs<'SoftmaxAttentionGrad'>,
  attrs: SoftmaxAttributes,
  backend: CudaBackend,
  rotary?: RotaryAttributes,
): KernelOutputs<'SoftmaxAttentionGrad'> {
  return backend.withScratch((scratch) => {
    const a = new FlashCall('softmax', inputs, attrs, backend, scratch);
    const fireSums = a.fire?.partialSums(a.queryBlocks) ?? 0;
    const { addresses, finish } = a.tensors.gradients(inputs);
    const dKeyBias = inputs.keyBias && backend.make(inputs.keyBias.shape, 'f32');
    const turns = rotary ? { turnQ: a.tensors.turn(rotary, 'queries'), turnK: a.tensors.turn(rotary, 'keys') } : {};
    a.backward({
      ...a.tensors.operands(inputs),
      ...addresses,
      ...turns,
      rowOutput: backend.f32(inputs.logSumExp, scratch),
      output: a.tensors.input(inputs.output),
      dOutput: a.tensors.input(inputs.dOutput),
      slopes: a.tensors.slopes(),
      fireSums,
      keyBias: a.tensors.keyBias(inputs.keyBias),
      dKeyBias: dKeyBias ? backend.address(dKeyBias) : 0,
    });
    const dBias = dKeyBias ? [dKeyBias] : (a.fire?.gradients(fireSums, a.queryBlocks) ?? []);
    return [...finish(), ...dBias];
  });
}
