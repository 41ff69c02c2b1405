import './node_host.js';

export type { ObservedAttention } from './attention/attend.js';
export type { AttentionKind } from './attention/attention_kind.js';
export { type AttentionReach, attentionReach } from './attention/attention_reach.js';
export { type AttentionConfig, attentionKind, contextReach } from './attention/index.js';
export { type SequenceGroup, SHARED_BY, type SharedBy } from './attention/shared_sequence.js';
export { isStickBreaking } from './attention/stick_breaking.js';
export { ownTokens, scoredTokens, type TargetBatch, type TokenBatch } from './batch.js';
export { count, LARGEST_INT, natural, nonNegative, positive } from './bounds.js';
export { KeyValueCache, PAGE_TOKENS } from './cache.js';
export { checkModelFiles, MODEL_FILE, readSummed, resolveCheckpoint, saveConfig } from './checkpoint.js';
export {
  type InsteadOptions,
  loadVerified,
  tensorBytes,
  thenVerifying,
  whileVerifying,
  withCheckpointInstead,
} from './checkpoint_instead.js';
export {
  ALGORITHM as CHECKSUM_ALGORITHM,
  CHECKSUMS_FILE,
  checksumsOf,
  type FileChecksum,
  OPTIMIZER_FILE,
  STATE_FILE,
  type SummedFiles,
  sumFiles,
  summedFiles,
  type VerifyOptions,
  verifyChecksums,
} from './checksums.js';
export {
  type LlamaConfig,
  type LlamaConfigInput,
  LlamaConfigSchema,
  parseConfig,
} from './config.js';
export type { ContinuationScore, ScoreOptions } from './continuations.js';
export type { ComputeOptions, ForwardOptions } from './decoder.js';
export { routedExperts, usesCountsBefore } from './feed_forward/index.js';
export { areFinite, checkFinite, checkFiniteNumbers } from './finite.js';
export { BatchGenerator, type EndReason, type GenerationEvent } from './generation/batch_generator.js';
export type { BatchedToken, BatchOptions } from './generation/generate.js';
export { checkGenerateOptions, type GenerateOptions, type GenerationRequest } from './generation/options.js';
export { logProbabilities, type TokenLogProbability } from './generation/sampling.js';
export { estimateTrainingMemory, type TrainingMemory, type TrainingMemoryOptions } from './gpu_memory.js';
export type { LoadAsyncOptions, SaveAsyncOptions, SaveOptions } from './host.js';
export { hostMemory } from './host_memory.js';
export { fetchCheckpoint } from './hub_checkpoint.js';
export { IMPLIED_BY_MODEL } from './implied.js';
export type { Recompute } from './layer.js';
export { loadConfig } from './load_config.js';
export type { LossAndGradients } from './loss.js';
export { estimateMemory } from './memory.js';
export { LlamaModel } from './model.js';
export {
  countActiveParameters,
  countParameters,
  countRoutedParameters,
  parameterShapes,
  trainingFlopsPerToken,
} from './parameters.js';
export { RefusedCheckpoint, readingCheckpoint, readingCheckpointAsync } from './refused_checkpoint.js';
export {
  readSafetensors,
  type SafetensorsFile,
  type SafetensorsLayout,
  safetensorsLayout,
  type TensorToWrite,
  type WriteSafetensorsOptions,
  writeSafetensors,
  writeSafetensorsAsync,
} from './safetensors.js';
export { nameOfStep, STEP, stepIn, stepNames } from './step_name.js';
export { piecesHandedOver } from './sum_threads.js';
