/**
 * Checksums of a checkpoint's files, so that a bit changed by a disk or a copy is found before anything is computed
 * from it. `checksums.json` lies beside the files and lists each with its length and its CRC-32 (zlib's, as `crc32`
 * prints it), which finds every change of up to 32 consecutive bits and all but one in four billion others.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { crc32 } from 'node:zlib';
import { explainSystemError, UserError } from '@stickbreaking/base';
import { readWhole } from '@stickbreaking/base/node';
import { z } from 'zod';

/** The file of a checkpoint that holds its checksums. */
export const CHECKSUMS_FILE = 'checksums.json';

const ChecksumsSchema = z.strictObject({
  version: z.literal(1),
  algorithm: z.literal('crc32'),
  files: z.record(
    z.string(),
    z.strictObject({ bytes: z.int().nonnegative(), crc32: z.string().regex(/^[0-9a-f]{8}$/) }),
  ),
});

type Checksums = z.output<typeof ChecksumsSchema>;
/** Length in bytes and CRC-32 of a file. */
export type FileChecksum = Checksums['files'][string];

/** The content of `checksums.json` for the files of a directory, some of which may have been summed already. */
export async function checksumsOf(
  directory: string,
  known: ReadonlyMap<string, FileChecksum> = new Map(),
): Promise<string> {
  const names = readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== CHECKSUMS_FILE)
    .map(({ name }) => name)
    .sort();
  const sums = await Promise.all(names.map((name) => known.get(name) ?? checksumOfFile(join(directory, name))));
  const files = Object.fromEntries(names.map((name, i) => [name, sums[i]!]));
  return `${JSON.stringify({ version: 1, algorithm: 'crc32', files } satisfies Checksums, null, 2)}\n`;
}

/**
 * Reads the directory's files again and holds them to its `checksums.json`. Large files are read by threads of their own,
 * so that loading may go on meanwhile.
 *
 * @returns false where there are no checksums to hold them to, as in a model from elsewhere
 * @throws UserError that names the first file that is not as it was saved
 */
export async function verifyChecksums(directory: string): Promise<boolean> {
  const path = join(directory, CHECKSUMS_FILE);
  if (!existsSync(path)) return false;
  const { files } = readChecksums(path);
  const found = await Promise.all(
    Object.keys(files).map((name) =>
      existsSync(join(directory, name)) ? checksumOfFile(join(directory, name)) : undefined,
    ),
  );
  for (const [i, [name, saved]] of Object.entries(files).entries()) {
    const now = found[i];
    if (!now) throw new UserError(`${join(directory, name)} is missing, which was saved with the checkpoint.`);
    if (now.bytes !== saved.bytes) {
      throw new UserError(
        `${join(directory, name)} is damaged: it has ${now.bytes} bytes, and was saved with ${saved.bytes}.`,
      );
    }
    if (now.crc32 !== saved.crc32) {
      throw new UserError(
        `${join(directory, name)} is damaged: it is not as it was saved (CRC-32 ${now.crc32}, expected ${saved.crc32}).`,
      );
    }
  }
  return true;
}

function readChecksums(path: string): Checksums {
  let json: unknown;
  try {
    json = JSON.parse(readWhole(path).toString());
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  const result = ChecksumsSchema.safeParse(json);
  if (!result.success) throw new UserError(`${path} is damaged: it is not a list of checksums.`);
  return result.data;
}

/** Smaller files are read at once: a thread takes longer to start. */
const SMALL_BYTES = 2 ** 25;

/** Length and CRC-32 of a file. */
export async function checksumOfFile(path: string): Promise<FileChecksum> {
  try {
    const { size } = statSync(path);
    const { bytes, sum } = size < SMALL_BYTES ? sumHere(path) : await sumInThread(path);
    return { bytes, crc32: hexadecimal(sum) };
  } catch (error) {
    throw explainSystemError(error, `cannot read ${path}`);
  }
}

export const hexadecimal = (sum: number) => sum.toString(16).padStart(8, '0');

interface Sum {
  bytes: number;
  sum: number;
}

function sumHere(path: string): Sum {
  const content = readWhole(path);
  return { bytes: content.length, sum: crc32(content) };
}

// As text, since a bundle is one file and a thread needs one of its own.
const THREAD = `
const { closeSync, openSync, readSync } = require('node:fs');
const { parentPort, workerData } = require('node:worker_threads');
const { crc32 } = require('node:zlib');
const file = openSync(workerData, 'r');
const buffer = Buffer.allocUnsafeSlow(2 ** 22);
let [bytes, sum] = [0, 0];
for (let read; (read = readSync(file, buffer)) > 0; bytes += read) sum = crc32(buffer.subarray(0, read), sum);
closeSync(file);
parentPort.postMessage({ bytes, sum });
`;

function sumInThread(path: string): Promise<Sum> {
  return new Promise((resolve, reject) => {
    const thread = new Worker(THREAD, { eval: true, workerData: path });
    thread.once('message', resolve);
    thread.once('error', reject);
  });
}
