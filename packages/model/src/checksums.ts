/**
 * Checksums of a checkpoint's files, so that a bit changed by a disk or a copy is found before anything is computed
 * from it. `checksums.json` lies beside the files, names the kind of sum and lists each file with its length and its
 * sum. What is saved is summed by Poly1305; checkpoints of earlier versions have a CRC-32, which is verified alike.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { explainSystemError, shown, UserError } from '@stickbreaking/base';
import { readWhole } from '@stickbreaking/base/node';
import { z } from 'zod';
import { faultOfCheckpoint, RefusedCheckpoint } from './refused_checkpoint.js';
import { ALGORITHMS, type Algorithm, newSum, SUM_IN_THREAD } from './sum.js';

/** The file of a checkpoint that holds its checksums. */
export const CHECKSUMS_FILE = 'checksums.json';

/** The file of a run's checkpoint that says where the run stood: its step, its data and its configuration. */
export const STATE_FILE = 'state.json';
/** The file of a run's checkpoint that holds the optimizer's moments. */
export const OPTIMIZER_FILE = 'optimizer.safetensors';

/** What is saved is summed by this. */
export const ALGORITHM = 'poly1305' satisfies Algorithm;

const bytes = z.int().nonnegative();
const listed = z.strictObject({ bytes, sum: z.string().regex(/^[0-9a-f]{32}$/) });

/** The list as it is written, and as earlier versions wrote it. */
const ChecksumsSchema = z.discriminatedUnion('algorithm', [
  z.strictObject({ version: z.literal(2), algorithm: z.literal(ALGORITHM), files: z.record(z.string(), listed) }),
  z
    .strictObject({
      version: z.literal(1),
      algorithm: z.literal('crc32'),
      files: z.record(z.string(), z.strictObject({ bytes, crc32: z.string().regex(/^[0-9a-f]{8}$/) })),
    })
    .transform(({ algorithm, files }) => ({
      algorithm,
      files: Object.fromEntries(Object.entries(files).map(([name, { bytes, crc32 }]) => [name, { bytes, sum: crc32 }])),
    })),
]);

/** Length in bytes and sum of a file. */
export type FileChecksum = z.output<typeof listed>;

/** Whatever changes what is computed: no list of checksums is without those that are there. */
const mustBeListed = (name: string) =>
  name.endsWith('.safetensors') || ['config.json', STATE_FILE, 'tokenizer.json'].includes(name);

interface Checksums {
  algorithm: Algorithm;
  files: Record<string, FileChecksum>;
}

/** The content of `checksums.json` for the files of a directory, some of which may have been summed already. */
export async function checksumsOf(
  directory: string,
  known: ReadonlyMap<string, FileChecksum> = new Map(),
): Promise<string> {
  const names = readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== CHECKSUMS_FILE)
    .map(({ name }) => name)
    .sort();
  const unknown = names.filter((name) => !known.has(name));
  const found = await sumFiles(unknown.map((name) => join(directory, name)));
  const sums = new Map([...known, ...unknown.map((name, i) => [name, found[i]!] as const)]);
  const files = Object.fromEntries(names.map((name) => [name, sums.get(name)!]));
  const list: z.input<typeof ChecksumsSchema> = { version: 2, algorithm: ALGORITHM, files };
  return `${JSON.stringify(list, null, 2)}\n`;
}

/** What was summed of a directory's files while they were loaded. */
export interface SummedFiles {
  readonly algorithm: Algorithm;
  /** The sums, by the files' names. */
  readonly sums: Map<string, string>;
}

/** For who loads a directory's files before `verifyChecksums`; undefined where there is nothing to hold a sum to. */
export function summedFiles(directory: string): SummedFiles | undefined {
  const path = join(directory, CHECKSUMS_FILE);
  try {
    return { algorithm: readChecksums(path, (message) => new UserError(message)).algorithm, sums: new Map() };
  } catch {
    return undefined; // who verifies says so
  }
}

/** Options of `verifyChecksums`. */
export interface VerifyOptions {
  /** Only what a model is loaded from, not what a run goes on with. */
  modelOnly?: boolean;
  /** Told of a run's checkpoint of an early version, which has no checksums. */
  onNotice?: ((line: string) => void) | undefined;
  /** Where the files have more bytes than this in all, only their lengths are compared; default: no limit. */
  mostBytes?: number | undefined;
  /** Files that were summed already are not read again. */
  summed?: SummedFiles | undefined;
}

/**
 * Reads the directory's files and holds them to its `checksums.json`. Large files are read by threads of their own,
 * so that other work may go on meanwhile.
 *
 * @returns false where the sums were not compared: there are none, as in a model from elsewhere, or the files are too large
 * @throws RefusedCheckpoint that names the first file that is not as it was saved
 */
export async function verifyChecksums(directory: string, options: VerifyOptions = {}): Promise<boolean> {
  try {
    return await verify(directory, options);
  } catch (error) {
    throw faultOfCheckpoint(error, directory);
  }
}

async function verify(
  directory: string,
  { modelOnly = false, onNotice, mostBytes = Number.POSITIVE_INFINITY, summed }: VerifyOptions,
): Promise<boolean> {
  const path = join(directory, CHECKSUMS_FILE);
  const refused = (message: string) => new RefusedCheckpoint(message, directory);
  if (!existsSync(path)) {
    if (!existsSync(join(directory, STATE_FILE))) return false;
    if (saysItHasChecksums(directory)) throw refused(`${path} is missing, which was saved with the checkpoint.`);
    onNotice?.(`${directory} has no ${CHECKSUMS_FILE}, which a run saves with its checkpoints: it was not verified`);
    return false;
  }
  const { algorithm, files } = readChecksums(path, refused);
  const isRead = (name: string) => !(modelOnly && name === OPTIMIZER_FILE);
  const saved = Object.entries(files).filter(([name]) => isRead(name));
  const unlisted = readdirSync(directory).find(
    (name) => mustBeListed(name) && isRead(name) && !Object.hasOwn(files, name),
  );
  if (unlisted !== undefined)
    throw refused(`${join(directory, unlisted)} is not in ${CHECKSUMS_FILE}, so it was not saved with the checkpoint.`);
  const damaged = (name: string, what: string) => refused(`${join(directory, name)} is damaged: ${what}.`);
  for (const [name, { bytes }] of saved) {
    if (!existsSync(join(directory, name)))
      throw refused(`${join(directory, name)} is missing, which was saved with the checkpoint.`);
    const now = sizeOf(join(directory, name));
    if (now !== bytes) throw damaged(name, `it has ${now} bytes, and was saved with ${bytes}`);
  }
  if (saved.reduce((total, [, { bytes }]) => total + bytes, 0) > mostBytes) return false;
  const sums = new Map(summed?.algorithm === algorithm ? summed.sums : []);
  const unread = saved.map(([name]) => name).filter((name) => !sums.has(name));
  const found = await sumFiles(
    unread.map((name) => join(directory, name)),
    algorithm,
  );
  for (const [i, name] of unread.entries()) sums.set(name, found[i]!.sum);
  for (const [name, { sum }] of saved) {
    const now = sums.get(name)!;
    if (now !== sum) throw damaged(name, `it is not as it was saved (${algorithm} ${now}, expected ${sum})`);
  }
  return true;
}

/** A run writes into the state which sums it saves with it: without them something was lost. */
function saysItHasChecksums(directory: string): boolean {
  try {
    const state = JSON.parse(readWhole(join(directory, STATE_FILE)).toString()) as { checksums?: unknown } | null;
    return state?.checksums !== undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return false; // who reads the state says so
    throw error;
  }
}

function readChecksums(path: string, refused: (message: string) => Error): Checksums {
  let json: unknown;
  try {
    json = JSON.parse(readWhole(path).toString());
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  const result = ChecksumsSchema.safeParse(json);
  if (result.success) return result.data;
  const { algorithm } = (json ?? {}) as Record<string, unknown>;
  if (typeof algorithm === 'string' && !(ALGORITHMS as readonly string[]).includes(algorithm)) {
    throw refused(
      `${path} was made with '${shown(algorithm)}', which this version does not know (it knows ${ALGORITHMS.join(', ')}); ` +
        'use the version that saved it.',
    );
  }
  throw refused(`${path} is damaged: it is not a list of checksums.`);
}

/** Less is read at once: a thread takes longer to start. */
const SMALL_BYTES = 2 ** 25;

/** Reading more files at once than this gains nothing from a disk. */
const MOST_THREADS = 4;

/** Length and sum of files. @throws UserError where one cannot be read */
export async function sumFiles(paths: readonly string[], algorithm: Algorithm = ALGORITHM): Promise<FileChecksum[]> {
  const isLarge = paths.map((path) => sizeOf(path) >= SMALL_BYTES);
  const large = sumInThreads(
    paths.filter((_, i) => isLarge[i]),
    algorithm,
  );
  large.catch(() => {}); // awaited below
  const small = paths.filter((_, i) => !isLarge[i]).map((path) => sumHere(path, algorithm));
  const sums = [small.values(), (await large).values()] as const;
  return paths.map((_, i) => sums[isLarge[i] ? 1 : 0].next().value!);
}

function sizeOf(path: string): number {
  try {
    return statSync(path).size;
  } catch (error) {
    throw explainSystemError(error, `cannot read ${path}`);
  }
}

function sumHere(path: string, algorithm: Algorithm): FileChecksum {
  const content = readWhole(path);
  const sum = newSum(algorithm);
  sum.update(content);
  return { bytes: content.length, sum: sum.end() };
}

/** A thread asks for so many bytes at once, and for so many pieces ahead: a disk is faster with several asked for. */
const READ_BYTES = 2 ** 21;
const READS_AHEAD = 4;

const THREAD = `${SUM_IN_THREAD}
const { parentPort, workerData: { paths, algorithm } } = require('node:worker_threads');
const buffers = Array.from({ length: ${READS_AHEAD} }, () => Buffer.allocUnsafeSlow(${READ_BYTES}));

async function filled(file, buffer, position) {
  let bytes = 0;
  for (let read = 1; read > 0 && bytes < buffer.length; bytes += read) {
    ({ bytesRead: read } = await file.read(buffer, bytes, buffer.length - bytes, position + bytes));
  }
  return buffer.subarray(0, bytes);
}

async function summed(path) {
  const file = await fs.promises.open(path, 'r');
  let asked = 0;
  const ask = (buffer) => {
    const piece = filled(file, buffer, ${READ_BYTES} * asked++);
    piece.catch(() => {}); // awaited below, unless one before it fails
    return piece;
  };
  const coming = buffers.map(ask);
  const sum = newSum(algorithm);
  let bytes = 0;
  for (let next = 0, piece; (piece = await coming[next]).length > 0; next = (next + 1) % buffers.length) {
    sum.update(piece);
    bytes += piece.length;
    coming[next] = ask(buffers[next]);
  }
  await Promise.all(coming);
  await file.close();
  return { bytes, sum: sum.end() };
}

(async () => {
  const sums = [];
  for (const path of paths) {
    try {
      sums.push(await summed(path));
    } catch (error) {
      throw Object.assign(error, { path });
    }
  }
  parentPort.postMessage(sums);
})();
`;

/**
 * A thread for each of the first files, from their beginnings: who loads them meanwhile reads one after the other, and
 * finds in memory what a thread was faster to fetch from the disk.
 */
async function sumInThreads(paths: readonly string[], algorithm: Algorithm): Promise<FileChecksum[]> {
  const count = Math.min(paths.length, MOST_THREADS);
  const shares = Array.from({ length: count }, (_, thread) => paths.filter((_, i) => i % count === thread));
  const sums = await Promise.all(shares.map((share) => sumInThread(share, algorithm)));
  return paths.map((_, i) => sums[i % count]![Math.floor(i / count)]!);
}

function sumInThread(paths: readonly string[], algorithm: Algorithm): Promise<FileChecksum[]> {
  return new Promise((resolve, reject) => {
    const thread = new Worker(THREAD, { eval: true, workerData: { paths, algorithm } });
    thread.once('message', resolve);
    thread.once('error', (error: NodeJS.ErrnoException) =>
      reject(explainSystemError(error, `cannot read ${error.path}`)),
    );
  });
}
