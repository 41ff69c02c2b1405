/** A step of generation as a whole, which a backend may record once and then repeat. */
import { engine, type Tensor, type Tensor1D, tensor1d } from '@tensorflow/tfjs-core';

/** What changes from step to step: the new tokens, and the documents' lengths and pages as `decodeAttention` takes them. */
export interface DecodeStep {
  /** [N] */
  tokens: Int32Array;
  /** [N] */
  lengths: Int32Array;
  /** [N·B] */
  table: Int32Array;
}

/** A backend that records a step: the kernels that it launches, with their arguments. */
interface RecordingBackend {
  recordDecodeStep?(step: DecodeStep, run: (tokens: Tensor1D) => Tensor): Tensor;
}

/**
 * Runs a step that does the same every time but for the values in `step`, with as many rows and pages a row. A backend may
 * launch it as one piece: `run` is then not called again while the tensors that it reads stay where they are.
 *
 * @param run from the new tokens, int32 [N], to one tensor; it gives `decodeAttention` the very arrays of `step`
 * @returns what `run` returns, valid until the next step
 */
export function decodeStep<T extends Tensor>(step: DecodeStep, run: (tokens: Tensor1D) => T): T {
  const backend = engine().backend as RecordingBackend;
  if (backend.recordDecodeStep) return backend.recordDecodeStep(step, run) as T;
  return run(tensor1d(step.tokens, 'int32'));
}
