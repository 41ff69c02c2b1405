// The manifest says what a directory of token shards was made from and how far it has come. It is replaced after
// every shard, so that an interrupted run continues after the last one that is whole.
import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { shown, UserError } from '@stickbreaking/base';
import { readWhole, replaceFile } from '@stickbreaking/base/node';
import { z } from 'zod';
import { hashFile } from './hash_file.js';
import type { SourceFile } from './sources.js';
import type { Tokenizer } from './tokenizer.js';

const count = z.int().nonnegative();

const VERSION = 2;

const ManifestSchema = z.object({
  format: z.literal('stickbreaking-tokens'),
  version: z.literal(VERSION),
  /** All sources are in the shards. */
  complete: z.boolean(),
  tokenizer: z.object({ hash: z.string(), vocabSize: count, eosId: count, beginId: count }),
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
      invalidText: z.string(),
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
  const { hash, vocabSize, eosId, beginId } = tokenizer;
  return {
    format: 'stickbreaking-tokens',
    version: VERSION,
    complete: false,
    tokenizer: { hash, vocabSize, eosId, beginId },
    type,
    shardTokens,
    documents: 0,
    tokens: 0,
    sources: [],
    shards: [],
  };
}

const manifestPath = (directory: string) => join(directory, 'manifest.json');

const REMEDY = 'remove its directory to tokenize again';

/** The manifest of a directory, if it has one. Throws a UserError where it contradicts itself. */
export function readManifest(directory: string): Manifest | undefined {
  const path = manifestPath(directory);
  if (!existsSync(path)) return undefined;
  const damaged = (what: string, cause?: unknown) =>
    new UserError(`${shown(path)} ${what}; ${REMEDY}.`, cause === undefined ? {} : { cause });
  let stored: unknown;
  try {
    stored = JSON.parse(readWhole(path, shown(path)).toString());
  } catch (error) {
    throw error instanceof UserError ? error : damaged('is damaged: it is not valid JSON', error);
  }
  if ((stored as { version?: unknown } | null)?.version === 1) throw damaged('is of an earlier version');
  const parsed = ManifestSchema.extend({ checksum: z.string() }).safeParse(stored);
  if (!parsed.success) {
    throw damaged(
      `is damaged or not of this version (${shown(parsed.error.issues[0]!.path.join('.') || 'no object')})`,
    );
  }
  const { checksum, ...manifest } = parsed.data;
  for (const key of ['documents', 'tokens'] as const) {
    const held = manifest.shards.reduce((sum, shard) => sum + shard[key], 0);
    if (manifest[key] !== held) throw damaged(`is damaged: ${key} is ${manifest[key]}, and its shards hold ${held}`);
  }
  if (checksumOf(manifest) !== checksum) throw damaged('was changed or is damaged: it does not fit its own checksum');
  return manifest;
}

export function writeManifest(directory: string, manifest: Manifest): void {
  const json = JSON.stringify({ ...manifest, checksum: checksumOf(manifest) }, null, 2);
  replaceFile(manifestPath(directory), `${json}\n`);
}

/** SHA-256 of what a manifest says, however it is laid out. */
function checksumOf(manifest: Manifest): string {
  return createHash('sha256')
    .update(JSON.stringify(ManifestSchema.parse(manifest)))
    .digest('hex');
}

/** Identifies the tokens of a directory: the same for the same documents through the same tokenizer. */
export function contentHash({ tokenizer, shards }: Manifest): string {
  const hash = createHash('sha256').update(tokenizer.hash);
  if (tokenizer.beginId !== tokenizer.eosId) hash.update(`${tokenizer.beginId}`);
  for (const shard of shards) hash.update(shard.sha256);
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
  const kept = manifest.tokenizer;
  if (kept.hash !== tokenizer.hash || kept.eosId !== tokenizer.eosId || kept.beginId !== tokenizer.beginId) {
    const say = (one: Pick<Tokenizer, 'hash' | 'eosId' | 'beginId'>) =>
      `${one.hash.slice(0, 12)}, documents from token ${one.beginId} to ${one.eosId}`;
    throw new UserError(
      `${shown(directory)} was tokenized with another tokenizer (${say(kept)}; now ${say(tokenizer)}: ${shown(tokenizer.path)}); ${remedy}.`,
    );
  }
  if (manifest.complete && manifest.sources.length !== files.length) {
    throw new UserError(
      `${shown(directory)} was made from ${manifest.sources.length} files and not from ${files.length}; ${remedy}.`,
    );
  }
  for (const [i, source] of manifest.sources.entries()) {
    const file = files[i];
    if (!file || !(await isSame(source, file))) {
      const now =
        file && file.path !== source.path ? `it is now ${shown(file.path)}` : 'it has changed, or is read otherwise';
      throw new UserError(
        `${shown(directory)} was made from ${shown(source.path)}, and ${file ? now : 'it is missing'}; ${remedy}.`,
      );
    }
  }
}

/** Path, size and time are the quick answer; where path or time differ, the content decides. */
async function isSame(source: ManifestSource, file: SourceFile): Promise<boolean> {
  if (source.format !== file.format || source.field !== file.field || source.split !== file.split) return false;
  // What was read without anything to replace is the same either way.
  if (source.invalidText === 'replace' && file.invalidText === 'refuse') return false;
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
  throw new UserError(`${shown(file.path)} changed while it was being read; run again when it is finished.`);
}
