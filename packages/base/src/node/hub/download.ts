/** One file of a repository into the cache: what broke off goes on where it ended, and what arrived is what was meant. */
import { createHash } from 'node:crypto';
import {
  createReadStream,
  createWriteStream,
  existsSync,
  linkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream } from 'node:stream/web';
import { UserError } from '../../errors.js';
import { formatBytes } from '../../format.js';
import { shown } from '../../shown.js';
import { makeDirectory } from '../files.js';
import { type ProgressLine, progressLine } from '../progress_line.js';
import type { HubAddress } from './address.js';
import { hubCache, repositoryFolder, snapshotFolder } from './cache.js';
import { BrokenDownload, type Hub } from './requests.js';

/** A file as the Hub lists it. */
export interface HubFile {
  path: string;
  /** bytes */
  size: number;
  /** SHA-256 of a large file, or what git calls any other: SHA-1 of `blob SIZE\0` and the bytes */
  digest: string;
}

/** Tries in a row that may bring nothing. */
const TRIES = 3;

export async function downloadFile(address: HubAddress, commit: string, file: HubFile, hub: Hub): Promise<void> {
  const link = join(snapshotFolder(address, commit), file.path);
  if (existsSync(link)) return;
  const blob = join(hubCache(), repositoryFolder(address), 'blobs', file.digest);
  if (!existsSync(blob)) await downloadBlob(address, commit, file, blob, hub);
  makeDirectory(dirname(link));
  rmSync(link, { force: true }); // a link to nothing, of a cache that was cleaned by hand
  try {
    symlinkSync(relative(dirname(link), blob), link);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
    linkSync(blob, link); // Windows, where symbolic links are a privilege
  }
}

async function downloadBlob(
  address: HubAddress,
  revision: string,
  file: HubFile,
  blob: string,
  hub: Hub,
): Promise<void> {
  const part = `${blob}.incomplete`;
  makeDirectory(dirname(part));
  const progress = progressLine();
  try {
    let left = TRIES;
    writeFileSync(part, '', { flag: 'a' }); // a file may hold nothing
    while (bytesOf(part) !== file.size) {
      const before = bytesOf(part);
      const error: unknown = await append(address, revision, file, part, hub, progress).catch((one: unknown) => one);
      if (isFinal(error)) throw error;
      const now = bytesOf(part);
      left = now > before && now <= file.size ? TRIES : left - 1;
      if (left === 0) throw new BrokenDownload(now, file.size, error);
      if (now > file.size) rmSync(part, { force: true }); // of a server that gave all from the start
    }
    if ((await digestOf(part, file)) !== file.digest) {
      rmSync(part);
      throw new UserError(
        `cannot fetch ${shown(address.given)}, ${shown(file.path)}: what arrived is not what the Hub lists (its checksum differs); run again.`,
      );
    }
    renameSync(part, blob);
  } finally {
    progress.clear();
  }
}

const bytesOf = (path: string) => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

/** Neither a refusal nor a full disk goes away by asking again. */
function isFinal(error: unknown): boolean {
  if (error instanceof UserError) return true;
  const { statusCode, syscall } = (error ?? {}) as { statusCode?: number; syscall?: string };
  return statusCode !== undefined || syscall === 'open' || syscall === 'write';
}

async function append(
  { type, repository, given }: HubAddress,
  revision: string,
  file: HubFile,
  part: string,
  hub: Hub,
  progress: ProgressLine,
): Promise<void> {
  const { downloadFile: open } = await import('@huggingface/hub');
  const have = bytesOf(part);
  // Over plain HTTP, whose ranges let a download go on.
  const whole = await open({ ...hub, repo: { type, name: repository }, revision, path: file.path, xet: false });
  if (!whole) throw new UserError(`cannot fetch ${shown(given)}: it lists ${shown(file.path)} and does not have it.`);
  if (whole.size !== file.size)
    throw new UserError(
      `cannot fetch ${shown(given)}, ${shown(file.path)}: it has ${whole.size} bytes, and ${file.size} in the list.`,
    );
  let received = have;
  const tell = async function* (bytes: AsyncIterable<Uint8Array>) {
    for await (const piece of bytes) {
      received += piece.length;
      const share = `${formatBytes(received)} of ${formatBytes(file.size)}`;
      progress.show(`${shown(given)}: ${shown(file.path)}, ${share}`);
      yield piece;
    }
  };
  const stream = (have === 0 ? whole : whole.slice(have)).stream();
  await pipeline(Readable.fromWeb(stream as ReadableStream), tell, createWriteStream(part, { flags: 'a' }));
}

async function digestOf(path: string, { size, digest }: HubFile): Promise<string> {
  const isGit = digest.length === 40;
  const hash = createHash(isGit ? 'sha1' : 'sha256');
  if (isGit) hash.update(`blob ${size}\0`);
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer);
  return hash.digest('hex');
}
