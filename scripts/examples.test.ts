/** The examples of the packages' READMEs run and print what stands below them. They run on the build, as a user has it. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { selectBackend } from '@stickbreaking/core';
import { globSync } from 'tinyglobby';
import { afterAll, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
// Below the root's node_modules, so that the packages are found by name.
const directory = mkdtempSync(join(root, 'node_modules/.examples-'));
afterAll(() => rmSync(directory, { recursive: true }));

/** What the READMEs show was printed on the backend that most machines have. */
const { name: backend } = await selectBackend('auto');

describe.skipIf(backend !== 'native').each(globSync('packages/*/README.md', { cwd: root }).sort())('%s', (readme) => {
  const text = readFileSync(join(root, readme), 'utf8');
  const examples = [...text.matchAll(/```js\n([\s\S]*?)```(?:\n\nprints[^\n]*\n\n```\n([\s\S]*?)```)?/g)];

  it.each(examples.map(([, code, printed], i) => ({ number: i + 1, code: code!, printed })))(
    'example $number',
    async ({ number, code, printed }) => {
      const name = `${readme.replace(/\W/g, '-')}-${number}.mjs`;
      writeFileSync(join(directory, name), code);
      const { stdout } = await promisify(execFile)(process.execPath, [name], { cwd: directory });
      if (printed !== undefined) expect(stdout.trim()).toBe(printed.trim());
    },
  );
});
