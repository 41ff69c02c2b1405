// A directory of token shards, open for reading: documents by number, read from their files as they are asked for.
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { shown, UserError } from '@stickbreaking/base';
import { FileReader } from './file_reader.js';
import { contentHash, type Manifest, readManifest } from './manifest.js';
import { Shard, type TokenArray } from './shard.js';

/** Token shards, open for reading. */
export interface TokenDataset {
  /** absolute path */
  readonly directory: string;
  readonly documents: number;
  /** each document's end token included */
  readonly tokens: number;
  readonly vocabSize: number;
  readonly eosId: number;
  /** What a document begins from: the tokenizer's beginning token, or where it has none its end token. */
  readonly beginId: number;
  readonly tokenizerHash: string;
  /** Identifies the tokens: the same for the same documents through the same tokenizer. */
  readonly hash: string;
  /** Tokens of document `index`, its end token included. */
  documentLength(index: number): number;
  /** Tokens `from` up to `to` of document `index`; default: all, the last one being `eosId`. */
  document(index: number, from?: number, to?: number): TokenArray;
  /** Closes the files; the dataset cannot be read afterwards. */
  close(): void;
}

/** Options of `openDataset`. */
export interface OpenDatasetOptions {
  /** Compare every shard with its checksum; `auto` (the default) does so up to 1 GiB of shards. */
  verify?: boolean | 'auto';
}

const AUTO_VERIFY_BYTES = 2 ** 30;

/**
 * Opens a directory made by `prepareShards`.
 *
 * @throws UserError if it holds no shards, they are not finished, or one is missing, truncated or damaged
 */
export function openDataset(directory: string, options: OpenDatasetOptions = {}): TokenDataset {
  const manifest = readManifest(directory);
  if (!manifest) throw new UserError(`${shown(directory)} holds no token shards (it has no manifest.json).`);
  if (!manifest.complete)
    throw new UserError(`the token shards in ${shown(directory)} are not finished; prepare them again.`);
  return new ShardDataset(resolve(directory), manifest, options);
}

class ShardDataset implements TokenDataset {
  readonly documents: number;
  readonly tokens: number;
  readonly vocabSize: number;
  readonly eosId: number;
  /** What a document begins from: the tokenizer's beginning token, or where it has none its end token. */
  readonly beginId: number;
  readonly tokenizerHash: string;
  readonly hash: string;
  private readonly shards: Shard[] = [];
  /** The number of each shard's first document, and of all documents at the end. */
  private readonly firsts: number[] = [0];

  constructor(
    readonly directory: string,
    manifest: Manifest,
    options: OpenDatasetOptions,
  ) {
    this.documents = manifest.documents;
    this.tokens = manifest.tokens;
    this.vocabSize = manifest.tokenizer.vocabSize;
    this.eosId = manifest.tokenizer.eosId;
    this.beginId = manifest.tokenizer.beginId;
    this.tokenizerHash = manifest.tokenizer.hash;
    this.hash = contentHash(manifest);
    const bytes = manifest.shards.reduce((sum, shard) => sum + shard.bytes, 0);
    const verify = options.verify === true || (options.verify !== false && bytes <= AUTO_VERIFY_BYTES);
    try {
      for (const entry of manifest.shards) this.openShard(entry, manifest.type, verify);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  private openShard(entry: Manifest['shards'][number], type: Manifest['type'], verify: boolean): void {
    const path = resolve(this.directory, entry.file);
    const shard = Shard.open(path, { type, bytes: entry.bytes });
    this.shards.push(shard);
    const sameCounts = shard.documents === entry.documents && shard.tokens === entry.tokens;
    if (!sameCounts || (verify && checksum(path) !== entry.sha256)) {
      throw new UserError(`the token shard ${shown(path)} is damaged; remove its directory to tokenize again.`);
    }
    this.firsts.push(this.firsts.at(-1)! + shard.documents);
  }

  documentLength(index: number): number {
    const s = this.shardOf(index);
    return this.shards[s]!.length(index - this.firsts[s]!);
  }

  document(index: number, from?: number, to?: number): TokenArray {
    const s = this.shardOf(index);
    return this.shards[s]!.document(index - this.firsts[s]!, from, to);
  }

  close(): void {
    for (const shard of this.shards.splice(0)) shard.close();
  }

  private shardOf(index: number): number {
    if (!(index >= 0 && index < this.documents)) {
      throw new RangeError(`document ${index} of ${this.documents} in ${this.directory}`);
    }
    let low = 0;
    let high = this.shards.length;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (this.firsts[middle]! <= index) low = middle;
      else high = middle;
    }
    return low;
  }
}

function checksum(path: string): string {
  const file = new FileReader(path);
  try {
    const hash = createHash('sha256');
    const step = 2 ** 22;
    for (let at = 0; at < file.size; at += step) hash.update(file.read(at, Math.min(file.size, at + step)));
    return hash.digest('hex');
  } finally {
    file.close();
  }
}
