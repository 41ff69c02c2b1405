// Files of text for tests: where they are written, how they are read back, and what compressors made of forty records.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readDocuments } from './documents.js';
import type { SourceInput } from './sources.js';

/** A folder for a test's files. */
export function testFolder(name: string) {
  const directory = mkdtempSync(join(tmpdir(), `sb-${name}-`));
  let files = 0;
  return {
    directory,
    write(ending: string, content: string | Uint8Array): string {
      const path = join(directory, `${++files}${ending}`);
      writeFileSync(path, content);
      return path;
    },
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

export async function read(source: SourceInput): Promise<{ texts: string[]; notices: string[] }> {
  const [texts, notices]: string[][] = [[], []];
  for await (const { text } of readDocuments(source, { onNotice: (line) => notices!.push(line) })) texts!.push(text);
  return { texts: texts!, notices: notices! };
}

export const readTexts = async (source: SourceInput) => (await read(source)).texts;

/** The message, which must be one line of a user's mistake. */
export async function refusal(source: SourceInput): Promise<string> {
  const error = await readTexts(source).then(
    () => new Error('nothing was refused'),
    (error: Error) => error,
  );
  if (error.name !== 'UserError' || /\n/.test(error.message)) throw error;
  return error.message;
}

const compressed = JSON.parse(readFileSync(new URL('compressed.fixture.json', import.meta.url), 'utf8'));
/** Forty records through `bzip2 -9`, `xz -9e` and zstd with a checksum. */
export const { bzip2: BY_BZIP2, xz: BY_XZ, zstd: BY_ZSTD } = compressed as Record<'bzip2' | 'xz' | 'zstd', string>;
export const forty = Array.from({ length: 40 }, (_, i) => `Document number ${i}, of forty alike.`);
