/** The backend that README.md writes as an example, in a process of its own: what it prints, and that a wrong one fails. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const folder = fileURLToPath(new URL('../..', import.meta.url));
const section = readFileSync(`${folder}README.md`, 'utf8').split('## A backend of your own')[1]!;
const [, example, printed] = /```js\n([\s\S]*?)```[\s\S]*?```\n([\s\S]*?)```/.exec(section)!;
const run = (program: string) =>
  execFileSync(process.execPath, ['--input-type=module', '-e', program], {
    cwd: folder,
    encoding: 'utf8',
    stdio: 'pipe',
  });

it('passes the suite and prints what README.md says', () => {
  expect(run(example!)).toBe(printed);
});

it('fails it with a kernel that is wrong', () => {
  const wrong = example!.replace('(1 + Math.exp(-value))', '(1.001 + Math.exp(-value))');
  expect(wrong).not.toBe(example);
  const lines = run(wrong).split('\n');
  expect(lines.filter((line) => line.startsWith('fails:'))).toHaveLength(3);
  expect(lines[2]).toMatch(/^fails: swiGlu .* relative error/);
});
