// The manifest says what a directory of token shards was made from and how far it has come. It is replaced after
// every shard, so that an interrupted run continues after the last one that is whole.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { explainSystemError, UserError } from '@stickbreaking/base';
import { replaceFile } from '@stickbreaking/base/node';
import { z } from 'zod';
import { hashFile } from './hash_file.js';
import type { SourceFile } from './sources.js';
import type { Tokenizer } from './tokenizer.js';

const count = z.int().nonnegative();

const ManifestSchema = z.object({
  format: z.literal('stickbreaking-tokens'),
  version: z.literal(1),
  /** All sources are in the shards. */
  complete: z.boolean(),
  tokenizer: z.object({ hash: z.string(), vocabSize: count, eosId: count }),
  type: z.enum(['uint16', 'uint32']),
  /** A shard is closed by the document that brings it to this many tokens. */
  shardTokens: count,
  documents: count,
  tokens: count,
  /** The files read so far, in order. */
  sources: z.array(
    z.object({
      path: z.string(),
      format: z.string(),
      field: z.string(),
      split: z.string(),
      size: count,
      mtimeMs: z.number(),
      sha256: z.string(),
    }),
  ),
  shards: z.array(
    z.object({
      file: z.string(),
      bytes: count,
      documents: count,
      tokens: count,
      sha256: z.string(),
      /** Where the next shard begins: a file of `sources` and how many of its texts come before. */
      next: z.object({ source: count, text: count }),
    }),
  ),
});

export type Manifest = z.infer<typeof ManifestSchema>;
export type ManifestSource = Manifest['sources'][number];

export function newManifest(tokenizer: Tokenizer, type: Manifest['type'], shardTokens: number): Manifest {
  const { hash, vocabSize, eosId } = tokenizer;
  return {
    format: 'stickbreaking-tokens',
    version: 1,
    complete: false,
    tokenizer: { hash, vocabSize, eosId },
    type,
    shardTokens,
    documents: 0,
    tokens: 0,
    sources: [],
    shards: [],
  };
}

const manifestPath = (directory: string) => join(directory, 'manifest.json');

/** The manifest of a directory, if it has one. */
export function readManifest(directory: string): Manifest | undefined {
  const path = manifestPath(directory);
  if (!existsSync(path)) return undefined;
  try {
    return ManifestSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    const told = explainSystemError(error, `cannot read ${path}`);
    if (told instanceof UserError) throw told;
    throw new UserError(`${path} is damaged or not of this version; remove its directory to tokenize again.`);
  }
}

export function writeManifest(directory: string, manifest: Manifest): void {
  replaceFile(manifestPath(directory), `${JSON.stringify(manifest, null, 2)}\n`);
}

/** Identifies the tokens of a directory: the same for the same documents through the same tokenizer. */
export function contentHash(manifest: Manifest): string {
  const hash = createHash('sha256').update(manifest.tokenizer.hash);
  for (const shard of manifest.shards) hash.update(shard.sha256);
  return hash.digest('hex');
}

/** Refuses shards that were made by another tokenizer or from other text than is asked for now. */
export async function checkSame(
  directory: string,
  manifest: Manifest,
  tokenizer: Tokenizer,
  files: readonly SourceFile[],
): Promise<void> {
  const remedy = 'give another directory, or remove this one to tokenize again';
  if (manifest.tokenizer.hash !== tokenizer.hash || manifest.tokenizer.eosId !== tokenizer.eosId) {
    const made = `tokenizer ${manifest.tokenizer.hash.slice(0, 12)}, end token ${manifest.tokenizer.eosId}`;
    const asked = `${tokenizer.hash.slice(0, 12)}, end token ${tokenizer.eosId} (${tokenizer.path})`;
    throw new UserError(`${directory} was tokenized with another tokenizer (${made}; now ${asked}); ${remedy}.`);
  }
  if (manifest.complete && manifest.sources.length !== files.length) {
    throw new UserError(
      `${directory} was made from ${manifest.sources.length} files and not from ${files.length}; ${remedy}.`,
    );
  }
  for (const [i, source] of manifest.sources.entries()) {
    const file = files[i];
    if (!file || !(await isSame(source, file))) {
      const now = file && file.path !== source.path ? `it is now ${file.path}` : 'it has changed, or is read otherwise';
      throw new UserError(`${directory} was made from ${source.path}, and ${file ? now : 'it is missing'}; ${remedy}.`);
    }
  }
}

/** Path, size and time are the quick answer; where path or time differ, the content decides. */
async function isSame(source: ManifestSource, file: SourceFile): Promise<boolean> {
  if (source.format !== file.format || source.field !== file.field || source.split !== file.split) return false;
  if (source.size !== file.size) return false;
  return (
    (source.path === file.path && source.mtimeMs === file.mtimeMs) || source.sha256 === (await hashFile(file.path))
  );
}

/** What the manifest keeps of a file about to be read. */
export async function describeSource(file: SourceFile): Promise<ManifestSource> {
  return { ...file, sha256: await hashFile(file.path) };
}

/** Throws a UserError when a file changed while it was being read. */
export function checkUnchanged(file: SourceFile): void {
  const stats = statSync(file.path, { throwIfNoEntry: false });
  if (stats?.size === file.size && stats.mtimeMs === file.mtimeMs) return;
  throw new UserError(`${file.path} changed while it was being read; run again when it is finished.`);
}
