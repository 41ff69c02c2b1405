/**
 * What the author of a backend builds on: the kernels' contract, the choice that `selectBackend` makes, and the
 * reference kernels for whatever a backend leaves to them. `@stickbreaking/core/conformance` holds a backend to the
 * contract. The backends `native` and `cuda` use this and nothing else of the package.
 */
export type { Available, BackendCandidate, Unavailable } from './backends/candidate.js';
export { silenceGreeting } from './backends/cpu.js';
export { type BackendKernels, cpuKernels, type KernelCall, registerKernels } from './backends/register.js';
export type { TfjsKernel, TfjsKernelName, TfjsKernelTable } from './backends/tfjs_kernels.js';
export { fireInputNames, fireInputsOf } from './fire_inputs.js';
export type * from './kernels.js';
export { kernelNames, runReference } from './reference/register.js';
export { runKernel } from './run_kernel.js';
export { sameValues } from './same_values.js';
