// Files of text for tests: where they are written, how they are read back, and what compressors made of forty records.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
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

/** Forty records through `bzip2 -9` and `xz -9e`. */
export const BY_BZIP2 =
  'QlpoOTFBWSZTWU0xAeQAA39dgAAQUAV/8AQAOy+WajAA+kBpH6qn6of6omgHoIADGTE0wmmJgJpgClUp+qZNA0DQaNPKeU2E/RNRPoTQTgJkJyE2JQr0lCthSm/hx5c+nW2xurbbb1tsbbbmZmZ7JKFZt1AqoQVKKEARCAAAAADGMZZYx8BMCZifwmYnUJ0E5CdYm4TQTQTMTUJxE3CaCZCfgmBOAmomwnkJoJgTYTeJxE2E3if4u5IpwoSCaYgPIA==';
export const BY_XZ =
  '/Td6WFoAAATm1rRGAgAhARwAAAAQz1jM4AdNAINdAD2IioaUiBPg84kzIcbnJL7jaDSZckUdVr1rIChz+vIB3rvazj1Dz9CzF/SOS+yJdqeL1u79/UL1DEjYfplGLPyDvdy0Cu1oKwtvLsKSMdXp4BNWgOmICFZz0y3E4g7UxvapW4t2o5uBrN/FtTHDpjnmxmwI1OmqNAm7vMEgCYscDzMAAABQIdWYr9MbfAABnwHODgAAxO0JjrHEZ/sCAAAAAARZWg==';
export const BY_ZSTD =
  'KLUv/QRo7QMAUkUSF4BPB3BrFgZM503IGKgPsSTlDLNtKlUP////v23btt22bdsmyGEUxF0ga4KDnojJK1Lw5YMZDEm5RqqmjJOTKgcuTWnRcrFhASioEfDr/x2AM0oPEfzvEDiEf37//fe9/9uf7dh+7a292ql92qV1tENTSkn7Go5BVAOV0r7i';
export const forty = Array.from({ length: 40 }, (_, i) => `Document number ${i}, of forty alike.`);
