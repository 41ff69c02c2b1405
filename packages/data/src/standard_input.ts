/** Text that is piped in, as a file: what is read twice, or not from front to back, must lie somewhere. */
import { closeSync, createWriteStream, mkdtempSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { EXIT, explainSystemError, UserError } from '@stickbreaking/base';
import { openFile } from '@stickbreaking/base/node';
import type { SourceFormat } from './kinds.js';

/** As commands write it. */
export const STANDARD_INPUT = '-';

/**
 * Copies standard input into a temporary file, which goes when the process ends.
 *
 * @param format what is in it; default: running text, which what looks like another kind is not taken for
 * @returns the file and its format
 * @throws UserError where a terminal would have to be typed into, nothing came, or the kind must be named
 */
export async function standardInputFile(
  format: SourceFormat | undefined,
): Promise<{ path: string; format: SourceFormat }> {
  if (process.stdin.isTTY)
    throw new UserError('- is standard input, and nothing is piped into it.', { exitCode: EXIT.usage });
  const folder = mkdtempSync(join(tmpdir(), 'stickbreaking-input-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'standard-input');
  try {
    await pipeline(process.stdin, createWriteStream(path));
  } catch (error) {
    throw explainSystemError(error, 'cannot keep what standard input holds');
  }
  return { path, format: format ?? textOnly(path) };
}

/** How files begin that are no running text. */
const MARKS: readonly (readonly [string, Buffer])[] = [
  ['parquet', Buffer.from('PAR1')],
  ['jsonl.gz', Buffer.from([0x1f, 0x8b])],
  ['jsonl.zst', Buffer.from([0x28, 0xb5, 0x2f, 0xfd])],
  ['jsonl.bz2', Buffer.from('BZh')],
  ['jsonl.xz', Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a])],
  ['jsonl', Buffer.from('{"')],
  ['json', Buffer.from('[')],
];

function textOnly(path: string): SourceFormat {
  const begin = Buffer.alloc(8);
  const file = openFile(path, 'reading');
  try {
    if (readSync(file, begin) === 0) throw new UserError('Standard input is empty; expected text.');
  } finally {
    closeSync(file);
  }
  const found = MARKS.find(([, mark]) => begin.subarray(0, mark.length).equals(mark));
  if (!found) return 'txt';
  throw new UserError(
    `What standard input holds looks like ${found[0]}: say what it is with --format, such as --format ${found[0]}, or txt.`,
    { exitCode: EXIT.usage },
  );
}
