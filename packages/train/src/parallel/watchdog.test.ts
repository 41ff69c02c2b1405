// The watchdog alone, in processes that do nothing else.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'watchdog-'));
const dist = fileURLToPath(new URL('../../dist/parallel/watchdog.js', import.meta.url));
const program = join(folder, 'program.mjs');
writeFileSync(
  program,
  `import { Watchdog } from '${dist}';
const { options, script } = JSON.parse(process.argv[2]);
const watchdog = new Watchdog({ startSeconds: 20, ...options });
const pause = (ms) => new Promise((wait) => setTimeout(wait, ms));
await watchdog.ready;
await new Function('watchdog', 'pause', 'return (async () => {' + script + '})()')(watchdog, pause);
await watchdog.close();
`,
);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Ended {
  code: number | null;
  stderr: string;
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

/** Runs a script in each of several processes, which meet. `options` changes one's. */
async function together(scripts: readonly string[], options: Record<number, object> = {}, common: object = {}) {
  const meeting = { hosts: ['127.0.0.1'], port: await freePort(), token: 'word' };
  const children: ChildProcess[] = [];
  const ended = scripts.map((script, rank) => {
    const all = {
      rank,
      size: scripts.length,
      identity: {},
      meeting,
      heartbeatSeconds: 0.2,
      ...common,
      ...options[rank],
    };
    const child = spawn(process.execPath, [program, JSON.stringify({ options: all, script })]);
    children.push(child);
    return new Promise<Ended>((resolve) => {
      let stderr = '';
      child.stderr.on('data', (data) => {
        stderr += data;
      });
      child.on('close', (code) => resolve({ code, stderr }));
    });
  });
  return await Promise.all(ended);
}

const all = (list: readonly Ended[]) => list.map(({ stderr }) => stderr).join('');
const forever = 'await pause(60000);';

describe('the watchdog', () => {
  it('lets processes part that are done, whoever is first', async () => {
    const list = await together(['await pause(300);', '', 'await pause(100);']);
    expect(list.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(all(list)).toBe('');
  });

  it('names the process that did not come to an exchange', async () => {
    const waiting = `watchdog.step(7); watchdog.begin('sum'); watchdog.end(); watchdog.begin('numbers'); ${forever}`;
    const late = `watchdog.step(7); watchdog.begin('sum'); watchdog.end(); ${forever}`;
    const list = await together([waiting, late, waiting], {}, { timeoutSeconds: 0.5 });
    expect(list.map(({ code }) => code)).toEqual([75, 75, 75]);
    expect(all(list)).toMatch(
      /^exchange 2 \(numbers\) has not ended in 0\.5 s: ranks 0, 2 wait, rank 1 did not come to it; all end\n$/,
    );
  });

  it('gives a process’s own reason, once, with its code', async () => {
    const list = await together([forever, "await watchdog.fail('no room left', 3);", forever]);
    expect(list.map(({ code }) => code)).toEqual([3, 3, 3]);
    expect(all(list)).toMatch(/^rank 1 \([^)]+\): no room left\n$/);
  });

  it('ends processes whose main thread is stuck', async () => {
    const stuck = 'for (;;) {}';
    const list = await together([stuck, 'process.kill(process.pid, "SIGKILL");', stuck]);
    expect(list.map(({ code }) => code)).toEqual([75, null, 75]);
    expect(all(list)).toMatch(/^rank 1 \([^)]+\), process \d+, ended before the first step; all others end\n$/);
  });

  it.each([
    [
      'another version of what is run',
      { identity: { a: { b: 1 } } },
      /runs another configuration \(a \{"b":1\}, rank 0 has undefined\)/,
    ],
    ['another number of processes', { size: 3 }, /rank 1 \([^)]+\) was started as one of 3, rank 0 as one of 2/],
    [
      'the same device',
      { device: 'GPU 1' },
      /rank 1 \([^)]+\) has the same device as rank 0: start one process for each GPU/,
    ],
    ['the rank of another', { rank: 0 }, /cannot meet: EADDRINUSE/],
  ])('refuses %s', async (_, options, message) => {
    const list = await together(
      [forever, forever],
      { 1: options },
      { device: 'GPU 1', startSeconds: 'rank' in options ? 2 : 20, ...('device' in options ? {} : { device: '' }) },
    );
    expect(all(list)).toMatch(message);
    expect(list.every(({ code }) => code !== 0)).toBe(true);
  });

  it('says who is missing at the start', async () => {
    const list = await together([forever, forever], { 1: { meeting: undefined, rank: 0 } }, { startSeconds: 1 });
    expect(list[0]).toMatchObject({ code: 1, stderr: 'rank 1 did not come in 1 s\n' });
  });
});

/** Two machines as network namespaces with a cable between them; that takes root and iproute2. */
const NAMES = [0, 1].map((i) => `sbt-${process.pid}-${i}`);
const ip = (...args: string[]) => execFileSync('ip', args);
const hasNamespaces =
  spawnSync('ip', ['netns', 'add', NAMES[0]!]).status === 0 &&
  spawnSync('ip', ['netns', 'del', NAMES[0]!]).status === 0;
if (!hasNamespaces) console.warn('no network namespaces here: the test of a cut link is skipped (root, iproute2)');

it.skipIf(!hasNamespaces)('two machines whose link is cut both leave, and say so', async () => {
  for (const name of NAMES) ip('netns', 'add', name);
  try {
    ip('link', 'add', 'sbt0', 'netns', NAMES[0]!, 'type', 'veth', 'peer', 'name', 'sbt1', 'netns', NAMES[1]!);
    for (const [i, name] of NAMES.entries()) {
      ip('-n', name, 'addr', 'add', `10.77.0.${i + 1}/24`, 'dev', `sbt${i}`);
      for (const device of ['lo', `sbt${i}`]) ip('-n', name, 'link', 'set', device, 'up');
    }
    const meeting = { hosts: ['10.77.0.1'], port: 7777, token: 'word' };
    const ended = NAMES.map((name, rank) => {
      const options = { rank, size: 2, identity: {}, meeting, heartbeatSeconds: 0.3 };
      const script = `watchdog.step(5); await pause(700); process.stdout.write('up'); ${forever}`;
      const args = ['netns', 'exec', name, process.execPath, program, JSON.stringify({ options, script })];
      const child = spawn('ip', args);
      const isUp = new Promise((resolve) => child.stdout.once('data', resolve));
      const end = new Promise<Ended>((resolve) => {
        let stderr = '';
        child.stderr.on('data', (data) => {
          stderr += data;
        });
        child.on('close', (code) => resolve({ code, stderr }));
      });
      return { isUp, end };
    });
    await Promise.all(ended.map(({ isUp }) => isUp));
    ip('-n', NAMES[1]!, 'link', 'set', 'sbt1', 'down');
    const [first, second] = await Promise.all(ended.map(({ end }) => end));
    expect(first).toMatchObject({ code: 75 });
    expect(first!.stderr).toMatch(
      /^rank 1 \([^)]+\), process \d+, has not answered for \d+ s in step 5; all others end\n$/,
    );
    expect(second).toMatchObject({ code: 75 });
    expect(second!.stderr).toMatch(/^rank 0 does not answer \(step 5\); all others end\n$/);
  } finally {
    for (const name of NAMES) spawnSync('ip', ['netns', 'del', name]);
  }
});
