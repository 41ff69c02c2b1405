// Starts the processes of a run on this machine: `--processes N` through mpirun, `--gpus N` by itself. This process then
// only passes on what asks them to stop, and ends with the exit code of the first that failed.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:net';
import { availableParallelism } from 'node:os';
import { EXIT, UserError } from '@stickbreaking/base';
import { exitCodeOf, STOP_SIGNALS } from '@stickbreaking/base/node';
import type { Place } from './place.js';

/** Set in processes that a launcher of ours started: they stop when it is gone. */
export const LEASH = 'STICKBREAKING_LEASH';
export const TOKEN = 'STICKBREAKING_TOKEN';
const THREADS = 'STICKBREAKING_THREADS';

/** How long the others have to follow one that failed. */
const GRACE_MS = 8000;

/** Starts this command again in so many processes on the CPU. Returns their exit code. */
export async function launchOnCpu(processes: number, args: readonly string[]): Promise<number> {
  const { command, options } = mpirun();
  const threads = process.env[THREADS] ?? String(Math.max(1, Math.floor(availableParallelism() / processes)));
  const child = spawn(command, [...options, '-n', String(processes), process.execPath, ...args], {
    env: { ...process.env, [THREADS]: threads, [LEASH]: 'stdin' },
    // A group of its own: what is typed at the terminal comes to this process alone. Its end closes their input.
    detached: true,
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  child.stdin!.on('error', () => {});
  // Both libraries' mpirun pass SIGUSR1 on, and end the processes at once for any other signal.
  return await until([child], (process) => process.kill('SIGUSR1'));
}

/** The launcher of the MPI library that is installed, and what makes it leave the cores to us. */
function mpirun(): { command: string; options: string[] } {
  for (const command of ['mpirun', 'mpiexec']) {
    const { stdout, error } = spawnSync(command, ['--version'], { encoding: 'utf8' });
    if (error) continue;
    const isOpen = /Open MPI|OpenRTE/.test(stdout);
    const asRoot = process.getuid?.() === 0 ? ['--allow-run-as-root'] : [];
    return { command, options: isOpen ? ['-q', '--bind-to', 'none', '--oversubscribe', ...asRoot] : [] };
  }
  throw new UserError(
    '--processes needs MPI, and there is no mpirun on the path: install Open MPI or MPICH (Debian: openmpi-bin or mpich).',
  );
}

/** Where this machine stands among several, each with as many GPUs. */
export interface Nodes {
  count: number;
  own: number;
  master: { host: string; port: number };
}

/** Starts this command again once for each GPU of this machine. Returns their exit code. */
export async function launchOnGpus(gpus: number, args: readonly string[], nodes?: Nodes): Promise<number> {
  const { count = 1, own = 0, master = { host: '127.0.0.1', port: await freePort() } } = nodes ?? {};
  const token = nodes ? 'nodes' : randomBytes(16).toString('hex');
  const children = Array.from({ length: gpus }, (_, localRank) => {
    const env = {
      ...process.env,
      ...{ RANK: own * gpus + localRank, WORLD_SIZE: count * gpus, LOCAL_RANK: localRank, LOCAL_WORLD_SIZE: gpus },
      ...{ MASTER_ADDR: master.host, MASTER_PORT: master.port, [TOKEN]: token, [LEASH]: 'channel' },
    };
    const strings = Object.fromEntries(Object.entries(env).map(([name, value]) => [name, String(value)]));
    return spawn(process.execPath, args, {
      env: strings,
      detached: true,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
  });
  return await until(children, (child, signal) => child.kill(signal));
}

async function until(
  children: readonly ChildProcess[],
  stop: (child: ChildProcess, signal: NodeJS.Signals) => void,
): Promise<number> {
  let asked: NodeJS.Signals | undefined;
  const pass = (signal: NodeJS.Signals) => {
    asked ??= signal;
    for (const child of children) if (child.exitCode === null) stop(child, signal);
  };
  for (const name of STOP_SIGNALS) process.on(name, pass);
  let failed: number | undefined;
  const ends = children.map(
    (child) =>
      new Promise<void>((resolve, reject) => {
        child.on('error', reject);
        child.on('exit', (code, signal) => {
          if (code !== 0 && failed === undefined) {
            failed = code ?? exitCodeOf(signal!);
            setTimeout(() => {
              for (const other of children) if (other.exitCode === null) other.kill('SIGKILL');
            }, GRACE_MS).unref();
          }
          resolve();
        });
      }),
  );
  try {
    await Promise.all(ends);
  } finally {
    for (const name of STOP_SIGNALS) process.off(name, pass);
  }
  // They were stopped by a signal of another name, perhaps: the code is that of the one that came here.
  if (asked && (failed === undefined || failed >= 128)) return exitCodeOf(asked);
  return failed ?? EXIT.done;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

/** Asks the run to stop once the launcher that started this process is gone. */
export function holdLeash({ rank }: Place, stop: () => void): void {
  if (process.env[LEASH] === 'channel') {
    process.once('disconnect', stop);
    process.channel?.unref(); // it alone keeps no process that is done
  }
  if (process.env[LEASH] === 'stdin' && rank === 0) {
    process.stdin.on('end', stop).on('error', () => {});
    process.stdin.resume();
    process.stdin.unref?.();
  }
}
