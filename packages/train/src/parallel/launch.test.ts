// The launcher of `--gpus`, with a program in place of sb-train.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { launchOnCpu, launchOnGpus } from './launch.js';

const folder = mkdtempSync(join(tmpdir(), 'launch-'));
const dist = fileURLToPath(new URL('../../dist/parallel', import.meta.url));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

afterEach(() => vi.unstubAllEnvs());

/** Starts a program in two processes. */
function launch(program: string, nodes?: Parameters<typeof launchOnGpus>[2]): Promise<number> {
  const file = join(folder, 'program.mjs');
  const head = `import { holdLeash } from '${dist}/launch.js';
import { placeOf } from '${dist}/place.js';
import { writeFileSync } from 'node:fs';
const place = placeOf(process.env);
const forever = setInterval(() => {}, 1000);
holdLeash(place, () => clearInterval(forever));
`;
  writeFileSync(file, head + program);
  return launchOnGpus(2, [file], nodes);
}

describe('processes that --gpus starts', () => {
  it('know their places, and end when they are done though their launcher goes on', async () => {
    const program = `writeFileSync('${folder}/' + place.rank, JSON.stringify(place)); clearInterval(forever);`;
    const nodes = { count: 3, own: 1, master: { host: 'a', port: 7 } };
    expect(await launch(program, nodes)).toBe(0);
    for (const localRank of [0, 1]) {
      const place = JSON.parse(readFileSync(join(folder, String(2 + localRank)), 'utf8'));
      const master = { host: 'a', port: 7 };
      expect(place).toEqual({ rank: 2 + localRank, size: 6, localRank, localSize: 2, launcher: 'torchrun', master });
    }
  });

  it('end with the code of the first that failed, the others following', async () => {
    const program = `if (place.rank === 1) process.exit(3); else process.on('SIGTERM', () => {});
setTimeout(() => process.exit(75), 500);`;
    expect(await launch(program)).toBe(3);
  });

  it('are each told to stop when their launcher is, which ends with the signal’s code', async () => {
    const program = `process.on('SIGTERM', () => { clearInterval(forever); process.exitCode = 143; });
writeFileSync('${folder}/up' + place.rank, '');`;
    const ended = launch(program);
    const isUp = (rank: number) => {
      try {
        return readFileSync(join(folder, `up${rank}`)) !== undefined;
      } catch {
        return false;
      }
    };
    while (!(isUp(0) && isUp(1))) await new Promise((wait) => setTimeout(wait, 20));
    process.kill(process.pid, 'SIGTERM');
    expect(await ended).toBe(143);
  });
});

it('--processes names what is missing where there is no mpirun', async () => {
  vi.stubEnv('PATH', folder);
  await expect(launchOnCpu(2, [])).rejects.toThrow(
    /^--processes needs MPI, and there is no mpirun on the path: install/,
  );
});
