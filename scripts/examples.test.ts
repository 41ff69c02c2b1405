/** The examples of the packages' READMEs run and print what stands below them. They run on the build, as a user has it. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { selectBackend } from '@stickbreaking/core';
import { globSync } from 'tinyglobby';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
/** What the READMEs show was printed on the backend that most machines have. */
const { name: backend } = await selectBackend('auto');

/** Those with an example: a package of commands alone has none. */
const readmes = globSync('packages/*/README.md', { cwd: root })
  .filter((readme) => readFileSync(join(root, readme), 'utf8').includes('```js\n'))
  .sort();

describe.skipIf(backend !== 'native').each(readmes)('%s', (readme) => {
  const text = readFileSync(join(root, readme), 'utf8');
  // In the package's folder, so that an example finds its package and what that depends on.
  let directory = '';
  beforeAll(() => {
    directory = mkdtempSync(join(root, dirname(readme), '.examples-'));
  });
  afterAll(() => rmSync(directory, { recursive: true }));
  const examples = [...text.matchAll(/```js\n([\s\S]*?)```(?:\n\nprints[^\n]*\n\n```\n([\s\S]*?)```)?/g)];

  it.each(examples.map(([, code, printed], i) => ({ number: i + 1, code: code!, printed })))(
    'example $number',
    async ({ number, code, printed }) => {
      const name = `example-${number}.mjs`;
      writeFileSync(join(directory, name), code);
      const { stdout } = await promisify(execFile)(process.execPath, [name], { cwd: directory });
      if (printed !== undefined) expect(stdout.trim()).toBe(printed.trim());
    },
  );
});
