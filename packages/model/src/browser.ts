/**
 * What of this package runs anywhere, a browser included: the model without files, and `openCheckpoint`, which makes one of
 * files that a user hands over.
 */
export type { ObservedAttention } from './attention/attend.js';
export { type AttentionConfig, attentionKind, contextReach } from './attention/index.js';
export type { TokenBatch } from './batch.js';
export { KeyValueCache } from './cache.js';
export { type LlamaConfig, type LlamaConfigInput, parseConfig } from './config.js';
export type { ForwardOptions } from './decoder.js';
export type { GenerateOptions } from './generation/options.js';
export { LlamaModel } from './model.js';
export { type CheckpointFile, openCheckpoint } from './open_checkpoint.js';
export { countParameters } from './parameters.js';
