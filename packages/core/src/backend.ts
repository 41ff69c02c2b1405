/**
 * For authors of backends: the contract of the kernels, what `selectBackend` asks of a backend, and the reference
 * kernels, which run where a backend has no kernel of its own. `@stickbreaking/core/conformance` tests a backend
 * against the contract. The backends `native` and `cuda` use this module and nothing else of the package.
 */
export type { Available, BackendCandidate, Unavailable } from './backends/candidate.js';
export { silenceGreeting } from './backends/cpu.js';
export { type BackendKernels, cpuKernels, type KernelCall, registerKernels } from './backends/register.js';
export type { TfjsKernel, TfjsKernelName, TfjsKernelTable } from './backends/tfjs_kernels.js';
export type { DecodeStep, SampledTokens, SamplingRow } from './decode_step.js';
export { fireInputNames, fireInputsOf } from './fire_inputs.js';
export type {
  AdamWAttributes,
  BackendKernel,
  CrossEntropyAttributes,
  DecodeAttributes,
  FireInputs,
  KernelAttributes,
  KernelInputs,
  KernelName,
  KernelOutputs,
  Kernels,
  KernelTable,
  MatmulAttributes,
  MatmulPrecision,
  MomentType,
  NoAttributes,
  PackedAttributes,
  ReadByAttributes,
  ReferenceKernel,
  ResidualAttributes,
  ResidualType,
  RotaryAttributes,
  RowPositions,
  SoftmaxAttributes,
  StickBreakingAttributes,
} from './kernels.js';
export { gradientsOf } from './reference/linears.js';
export { kernelNames, runReference } from './reference/register.js';
export { runKernel } from './run_kernel.js';
export { sameValues } from './same_values.js';
export { momentSeed, roundingBits, roundStochastically } from './stochastic_rounding.js';
