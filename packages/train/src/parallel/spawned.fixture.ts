// Commands that tests of several processes start, and how they end.
import { type ChildProcess, spawn } from 'node:child_process';

export interface Ended {
  code: number | null;
  stderr: string;
}

/** Starts a command in this environment with `env` over it. */
export function start(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(command, args, { env: { ...process.env, STICKBREAKING_THREADS: '1', ...env } });
  const ended = new Promise<Ended>((resolve, reject) => {
    let stderr = '';
    child.stderr.on('data', (data) => {
      stderr += data;
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stderr }));
  });
  return { child, ended };
}
