/** A step of generation as a whole, which a backend may record once and then repeat. */
import { engine, type Tensor, type Tensor1D, type Tensor2D, tensor1d } from '@tensorflow/tfjs-core';

/** What changes from step to step: the new tokens, and the documents' lengths and pages as `decodeAttention` takes them. */
export interface DecodeStep {
  /** Whose step it is, such as a model: what is recorded for one is not repeated for another. */
  owner: object;
  /** [N] */
  tokens: Int32Array;
  /** [N] */
  lengths: Int32Array;
  /** [N·B] */
  table: Int32Array;
}

/** A backend that records a step: the kernels that it runs, with their arguments. */
interface RecordingBackend {
  recordDecodeStep?(step: DecodeStep, run: (tokens: Tensor1D, step: DecodeStep) => Tensor): Tensor;
}

/**
 * Runs a step that does the same every time but for the values in `step`, with as many rows and pages a row. A backend may
 * repeat what it did as one piece: `run` is then not called again while the tensors that it reads stay where they are.
 *
 * @param run from the new tokens of a step, int32 [N], to one tensor [N, …]; it gives `decodeAttention` the very arrays of that
 *   step, which a backend may have made of `step`, with other rows behind
 * @returns what `run` returns, of the rows of `step`
 */
export function decodeStep<T extends Tensor>(step: DecodeStep, run: (tokens: Tensor1D, step: DecodeStep) => T): T {
  const backend = engine().backend as RecordingBackend;
  if (backend.recordDecodeStep) return backend.recordDecodeStep(step, run) as T;
  return run(tensor1d(step.tokens, 'int32'), step);
}

/** How one row's next token is drawn; `model`'s sampling says what each means. */
export interface SamplingRow {
  /** 0: the most likely token. */
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  /** In [0, 1): the one random number that a draw takes. */
  uniform: number;
}

/** What was drawn for each row, and the logarithm of its probability in the row's softmax, before any selection. */
export interface SampledTokens {
  /** [N]; −1 where the largest logit is not finite, which is then in `logProbabilities`. */
  tokens: Int32Array;
  /** [N] */
  logProbabilities: Float32Array;
}

/** A backend that draws tokens where the logits are. */
interface SamplingBackend {
  sampleTokens?(logits: Tensor2D, rows: readonly SamplingRow[]): Promise<SampledTokens> | undefined;
}

/**
 * Draws the next token of each row where the logits lie, so that they need not be downloaded.
 *
 * @param logits [N, V]
 * @returns undefined where the active backend has no kernel for it, or not for so many tokens
 */
export function sampleTokens(logits: Tensor2D, rows: readonly SamplingRow[]): Promise<SampledTokens> | undefined {
  return (engine().backend as SamplingBackend).sampleTokens?.(logits, rows);
}
