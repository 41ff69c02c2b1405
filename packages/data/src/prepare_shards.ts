// Text is tokenized once: documents → batches through the tokenizer → shards, with a manifest that is updated after each
// shard. Where a shard ends depends on the documents alone, so a run that was killed and continued leaves the same
// bytes as one that was not.
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { UserError } from '@stickbreaking/base';
import { removeLeftovers, replaceFile, withLock } from '@stickbreaking/base/node';
import { openDataset, type TokenDataset } from './dataset.js';
import { checkSomeText, type ReadOptions, readFilePieces, type TextPiece } from './documents.js';
import {
  checkSame,
  checkUnchanged,
  describeSource,
  type Manifest,
  newManifest,
  readManifest,
  writeManifest,
} from './manifest.js';
import { type OnNotice, tellOnce } from './notices.js';
import { PieceEncoder } from './piece_encoder.js';
import { ShardBuilder, tokenType } from './shard.js';
import { findFiles, type SourceFile, type SourceInput } from './sources.js';
import type { Tokenizer } from './tokenizer.js';

/** How far `prepareShards` has come. */
export interface PrepareProgress {
  /** the file being read, and how many there are */
  file: string;
  fileIndex: number;
  files: number;
  /** so far, over all files */
  documents: number;
  tokens: number;
  /** of the files as they lie on disk: how far they are tokenized, and in all */
  bytes: number;
  totalBytes: number;
  /** process id of another process that prepares the same directory and is waited for */
  waitingFor?: number;
}

/** Options of `prepareShards`. */
export interface PrepareOptions {
  /** One source, or several whose files are read one after the other (weights play no part here). */
  source: SourceInput | readonly SourceInput[];
  tokenizer: Tokenizer;
  /** Where the shards go. */
  directory: string;
  /** A shard is closed by the document that brings it to this many tokens. Default 16,777,216. */
  shardTokens?: number;
  /** Called as tokenizing proceeds. */
  onProgress?: (progress: PrepareProgress) => void;
  /** Reports what is skipped or replaced; default: a line on stderr. */
  onNotice?: OnNotice;
  /** Stops between batches; the shards written so far are kept and continued next time. */
  signal?: AbortSignal;
}

/**
 * Tokenizes a source into shards, or opens existing ones: they are reused if nothing changed, continued if interrupted,
 * and refused with a UserError if the tokenizer or the text differs. A text that holds the end token or `<|endoftext|>`
 * (as files have it between their documents) is cut there; blank texts are skipped.
 */
export async function prepareShards(options: PrepareOptions): Promise<TokenDataset> {
  const { tokenizer, directory, signal } = options;
  const files: SourceFile[] = [];
  for (const source of [options.source].flat() as SourceInput[])
    files.push(...(await findFiles(source, options.onNotice)));
  const ready = readManifest(directory);
  if (!ready?.complete) {
    const onWait = (waitingFor: number) =>
      options.onProgress?.({
        ...{ file: directory, fileIndex: 0, files: files.length, documents: 0, tokens: 0, waitingFor },
        ...{ bytes: 0, totalBytes: sizeOf(files) },
      });
    await withLock(directory, { signal, onWait }, () => new Preparation(options, files).run());
  } else {
    await checkSame(directory, ready, tokenizer, files);
  }
  return openDataset(directory);
}

const sizeOf = (files: readonly SourceFile[]) => files.reduce((sum, { size }) => sum + size, 0);

/** How much text goes through the tokenizer at once, in UTF-16 units. */
const BATCH_CHARACTERS = 2 ** 22;
const BATCH_TEXTS = 8192;

class Preparation {
  private readonly directory: string;
  private readonly tokenizer: Tokenizer;
  private manifest: Manifest;
  private shard: ShardBuilder;
  /** Files that were read and hold no document. */
  private readonly empty: SourceFile[] = [];
  /** Of the files: read, and read of what is tokenized. */
  private bytes = 0;
  private tokenizedBytes = 0;

  constructor(
    private readonly options: PrepareOptions,
    private readonly files: readonly SourceFile[],
  ) {
    this.directory = options.directory;
    this.tokenizer = options.tokenizer;
    const { shardTokens = 2 ** 24 } = options;
    if (!Number.isInteger(shardTokens) || shardTokens < 1)
      throw new UserError('shardTokens must be a whole number above 0.');
    this.manifest =
      readManifest(this.directory) ?? newManifest(this.tokenizer, tokenType(this.tokenizer.vocabSize), shardTokens);
    this.shard = this.newShard();
  }

  async run(): Promise<void> {
    await checkSame(this.directory, this.manifest, this.tokenizer, this.files);
    if (this.manifest.complete) return; // another process has been here while the lock was waited for
    removeLeftovers(this.directory, 'the dead');
    const start = this.manifest.shards.at(-1)?.next ?? { source: 0, text: 0 };
    this.bytes = sizeOf(this.files.slice(0, start.source));
    this.tokenizedBytes = this.bytes;
    for (let i = start.source; i < this.files.length; i++) await this.addFile(i, i === start.source ? start.text : 0);
    if (this.shard.documents > 0) this.closeShard({ source: this.files.length, text: 0 });
    if (this.manifest.tokens === 0) checkSomeText(this.files, this.files);
    checkSomeText(this.files, this.empty, this.options.onNotice);
    this.save({ ...this.manifest, complete: true });
  }

  /** Adds a file's pieces of text from number `first` on. The next batch is read while one is being encoded. */
  private async addFile(index: number, first: number): Promise<void> {
    const file = this.files[index]!;
    const described = this.manifest.sources[index] ?? (await describeSource(file));
    this.manifest.sources[index] = { ...described, invalidText: file.invalidText };
    const encoder = new PieceEncoder(this.tokenizer);
    const onRead = (bytes: number) => {
      this.bytes += bytes;
    };
    let next = first;
    let pending = { batch: [] as TextPiece[], ids: Promise.resolve<number[][]>([]), upTo: this.bytes };
    const settle = async () => {
      for (const [i, ids] of (await pending.ids).entries()) {
        this.addPiece(ids, pending.batch[i]!.last, { source: index, text: ++next });
      }
      this.tokenizedBytes = pending.upTo;
    };
    for await (const batch of batches(skip(readFilePieces({ ...file, onRead }, this.reading()), first))) {
      this.options.signal?.throwIfAborted();
      await settle();
      pending = { batch, ids: encoder.encode(batch), upTo: this.bytes };
      pending.ids.catch(() => {}); // it is awaited in settle(), but an error in reading the file may come before
      if (first === 0 || next > first) this.report(index); // how far the bytes of what was skipped go is known only later
    }
    await settle();
    this.tokenizedBytes = this.bytes;
    checkUnchanged(file);
    if (next === 0) this.empty.push(file);
    this.report(index);
  }

  private reading(): ReadOptions {
    const { onNotice = tellOnce } = this.options;
    return { endTexts: this.tokenizer.endTexts, onNotice };
  }

  /** The end token may also come out of text that is not spelled like it (a normalizer's work). */
  private addPiece(ids: number[], last: boolean, next: { source: number; text: number }): void {
    const { eosId } = this.tokenizer;
    let start = 0;
    for (let end = ids.indexOf(eosId); end >= 0; end = ids.indexOf(eosId, start)) {
      this.shard.append(ids.slice(start, end));
      this.shard.endDocument(eosId);
      start = end + 1;
    }
    this.shard.append(start === 0 ? ids : ids.slice(start));
    if (!last) return;
    this.shard.endDocument(eosId);
    if (this.shard.tokens >= this.manifest.shardTokens) this.closeShard(next);
  }

  private closeShard(next: { source: number; text: number }): void {
    this.options.signal?.throwIfAborted();
    const parts = this.shard.finish();
    const hash = createHash('sha256');
    for (const part of parts) hash.update(part);
    const file = `shard-${String(this.manifest.shards.length).padStart(5, '0')}.bin`;
    replaceFile(join(this.directory, file), (write) => parts.forEach(write));
    const { documents, tokens } = this.shard;
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    this.save({
      ...this.manifest,
      documents: this.manifest.documents + documents,
      tokens: this.manifest.tokens + tokens,
      shards: [...this.manifest.shards, { file, bytes, documents, tokens, sha256: hash.digest('hex'), next }],
    });
    this.shard = this.newShard();
  }

  private save(manifest: Manifest): void {
    writeManifest(this.directory, manifest);
    this.manifest = manifest;
  }

  private newShard(): ShardBuilder {
    return new ShardBuilder(this.manifest.type, Math.min(this.manifest.shardTokens, 2 ** 20));
  }

  private report(fileIndex: number): void {
    this.options.onProgress?.({
      file: this.files[fileIndex]!.path,
      fileIndex,
      files: this.files.length,
      documents: this.manifest.documents + this.shard.documents,
      tokens: this.manifest.tokens + this.shard.tokens,
      bytes: this.tokenizedBytes,
      totalBytes: sizeOf(this.files),
    });
  }
}

async function* skip<T>(items: AsyncIterable<T>, count: number): AsyncGenerator<T> {
  let index = 0;
  for await (const item of items) if (index++ >= count) yield item;
}

async function* batches(pieces: AsyncIterable<TextPiece>): AsyncGenerator<TextPiece[]> {
  let batch: TextPiece[] = [];
  let characters = 0;
  for await (const piece of pieces) {
    batch.push(piece);
    characters += piece.text.length;
    if (characters < BATCH_CHARACTERS && batch.length < BATCH_TEXTS) continue;
    yield batch;
    batch = [];
    characters = 0;
  }
  if (batch.length > 0) yield batch;
}
