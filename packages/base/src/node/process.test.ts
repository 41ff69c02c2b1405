import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';

const built = new URL('../../dist/node/index.js', import.meta.url).href;

it('counts a process’s own memory, not what its parent had', () => {
  const program = `import { peakMemory } from '${built}'; console.log(peakMemory());`;
  const peak = () =>
    Number(execFileSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' }));
  const before = peak();
  expect(before).toBeGreaterThan(2 ** 24);
  const ballast = Buffer.alloc(2 ** 29, 1);
  expect(peak()).toBeLessThan(2 ** 29);
  expect(ballast.at(-1)).toBe(1); // it is there still
});
