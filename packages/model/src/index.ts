export type { ObservedAttention } from './attention.js';
export { KeyValueCache } from './cache.js';
export { resolveCheckpoint } from './checkpoint.js';
export {
  type AttentionConfig,
  type LlamaConfig,
  type LlamaConfigInput,
  LlamaConfigSchema,
  loadConfig,
  parseConfig,
} from './config.js';
export { checkGenerateOptions, type GenerateOptions } from './generate.js';
export { type ForwardOptions, LlamaModel, type Recompute, type TokenBatch } from './model.js';
export { countParameters, estimateMemory, generator, hostMemory, parameterShapes } from './parameters.js';
export {
  readSafetensors,
  replaceFile,
  type SafetensorsFile,
  syncDirectory,
  type TensorToWrite,
  writeSafetensors,
} from './safetensors.js';
export { parseYaml, readYaml, type YamlOptions } from './yaml.js';
