export { type OpenDatasetOptions, openDataset, type TokenDataset } from './dataset.js';
export { readDocuments, type TextDocument } from './documents.js';
export {
  type Batch,
  type LoaderCursor,
  LoaderCursorSchema,
  type MixtureComponent,
  PackedLoader,
  type PackedLoaderOptions,
} from './packed_loader.js';
export { type PrepareOptions, type PrepareProgress, prepareShards } from './prepare_shards.js';
export type { TokenArray } from './shard.js';
export {
  listFiles,
  type SourceConfig,
  SourceConfigSchema,
  type SourceFile,
  type SourceFormat,
  type SourceInput,
} from './sources.js';
export type { StreamDecoder } from './stream_decoder.js';
export { hasNativeTokenizers, openTokenizer, type Tokenizer, type TokenizerOptions } from './tokenizer.js';
export { shrinkTokenizer, type TrainTokenizerOptions, trainTokenizer } from './train_tokenizer.js';
