/** 65,536 tokens of one head, forward, in less than 1 GiB: nothing quadratic is allocated. In a process of its own. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { native } from '@stickbreaking/core/native';
import { expect, it } from 'vitest';

const probed = await native.probe();
const built = new URL('../../dist/index.js', import.meta.url).href;
const base = new URL('../../../base/dist/node/index.js', import.meta.url).href;

/** Prints peak memory in bytes and the sum of the remainders. @param shift added to every logit, times 16 */
const program = (shift: number) => `
import { peakMemory } from '${base}';
import { randomNormal, sum } from '@tensorflow/tfjs-core';
import { selectBackend, stickBreakingAttention } from '${built}';
await selectBackend('native');
const [N, headDim] = [65536, 16];
const x = () => randomNormal([N, 1, headDim]);
const { output, remainder } = stickBreakingAttention(x().add(4), x().mul(0.1).add(${shift}), x(), { cuSeqlens: [0, N] });
await output.data();
console.log(JSON.stringify({ peak: peakMemory(), left: (await sum(remainder).data())[0] / N }));
`;

const cases = [
  { name: 'sticks that last to the first key', shift: -0.75, left: [0.5, 1] },
  { name: 'sticks that break early', shift: 0, left: [0, 0.1] },
] as const;
// tfjs's plain cpu backend runs the same blocks of the reference, for half an hour: its memory grows by 1 KiB a token.
for (const { name, shift, left } of cases) {
  const why = probed.available ? '' : ` (skipped: ${probed.why})`;
  it.skipIf(!probed.available)(`65,536 tokens, ${name}${why}`, () => {
    const cwd = fileURLToPath(new URL('../..', import.meta.url));
    const printed = execFileSync(process.execPath, ['--input-type=module', '-e', program(shift)], { cwd });
    const result = JSON.parse(printed.toString()) as { peak: number; left: number };
    console.info(`65,536 tokens, ${name}: peak ${Math.round(result.peak / 2 ** 20)} MiB`);
    expect(result.peak).toBeLessThan(2 ** 30);
    expect(result.left).toBeGreaterThanOrEqual(left[0]);
    expect(result.left).toBeLessThanOrEqual(left[1]);
  });
}
