export { type OpenDatasetOptions, openDataset, type TokenDataset } from './dataset.js';
export { type ReadOptions, readDocuments, readPieces, type TextDocument, type TextPiece } from './documents.js';
export { hashFile } from './hash_file.js';
export { formats, knownEndings, type SourceFormat } from './kinds.js';
export { type OnNotice, tellOnce } from './notices.js';
export {
  dataDescription,
  type SourceArguments,
  type SpecialTokenArguments,
  sourceOptions,
  sourcesFrom,
  specialTokenOptions,
  specialTokensFrom,
} from './options.js';
export {
  type Batch,
  type LoaderCursor,
  LoaderCursorSchema,
  type MixtureComponent,
  PackedLoader,
  type PackedLoaderOptions,
} from './packed_loader.js';
export { PieceEncoder } from './piece_encoder.js';
export { type PrepareOptions, type PrepareProgress, prepareShards } from './prepare_shards.js';
export { readRows } from './rows.js';
export { type SavedTokenizer, saveTokenizer } from './save_tokenizer.js';
export type { TokenArray } from './shard.js';
export {
  findFiles,
  listFiles,
  type SourceConfig,
  SourceConfigSchema,
  type SourceFile,
  type SourceInput,
} from './sources.js';
export type { SpecialTokenOptions } from './special_tokens.js';
export type { StreamDecoder } from './stream_decoder.js';
export {
  hasNativeTokenizers,
  openTokenizer,
  type Tokenizer,
  type TokenizerConfig,
  TokenizerConfigSchema,
  type TokenizerOptions,
} from './tokenizer.js';
export { shrinkTokenizer, type TrainTokenizerOptions, trainTokenizer } from './train_tokenizer.js';
export { detokenizeWikiText, wikiTextPages } from './wikitext.js';
