/**
 * An evaluation in several processes: each scores every n-th pack and generates every n-th answer into a file of its own, and
 * the first process puts them together. Packs are the same as in one process, and so are the digits.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { EXIT, OptionError, shown, UserError } from '@stickbreaking/base';

/** Which of the processes this is. */
export interface Part {
  index: number;
  count: number;
}

const VARIABLE = 'STICKBREAKING_EVAL_PART';
const THREADS = 'STICKBREAKING_THREADS';
const GPUS = 'CUDA_VISIBLE_DEVICES';

/** The part that a process was started for; undefined for one that a user started. */
export function ownPart(environment: NodeJS.ProcessEnv = process.env): Part | undefined {
  const found = /^(\d+)\/(\d+)$/.exec(environment[VARIABLE] ?? '');
  return found ? { index: Number(found[1]), count: Number(found[2]) } : undefined;
}

/** Whether a piece of work, by its number, is the part's. */
export function isOwn(part: Part | undefined, number: number): boolean {
  return part === undefined || number % part.count === part.index;
}

/** The file of a part's answers. */
export function partFile(answers: string, index: number): string {
  return answers.replace(/\.jsonl$/, `.part${index}.jsonl`);
}

/**
 * How many GPUs `--gpus` means.
 *
 * @throws UserError where there are not so many
 */
export async function gpusAsked(asked: string): Promise<number> {
  const present = await (await import('@stickbreaking/core/cuda')).countGpus();
  const count = asked === 'all' ? present : Number(asked);
  if (!(Number.isInteger(count) && (count > 0 || asked === 'all'))) {
    throw new OptionError('--gpus', `'${shown(asked)}'`, 'a whole number above 0, or all');
  }
  if (count > present || present === 0) {
    const there = present === 0 ? 'this machine shows none' : `this machine shows ${present}`;
    throw new UserError(`--gpus ${shown(asked)}: ${there}; leave it out to run on the CPU.`, { exitCode: EXIT.unmet });
  }
  return count;
}

/**
 * Runs the command once for each part; the first shows its progress.
 *
 * @param signal stops all of them
 * @returns 0, or the exit code of one that was stopped
 * @throws UserError with what the first to fail says
 */
export async function runParts(count: number, argv: readonly string[], signal: AbortSignal): Promise<number> {
  const beside = fileURLToPath(new URL('../../bin/sb-eval.js', import.meta.url));
  const command = existsSync(beside) ? beside : process.argv[1]!;
  const children = Array.from({ length: count }, (_, index) =>
    spawn(process.execPath, [command, ...argv], {
      env: { ...process.env, ...environmentOf({ index, count }) },
      stdio: ['ignore', 'ignore', index === 0 ? 'inherit' : 'pipe'],
    }),
  );
  const stop = () => {
    for (const child of children) if (child.exitCode === null) child.kill('SIGTERM');
  };
  signal.addEventListener('abort', stop);
  try {
    const ends = await Promise.all(children.map((child) => endOf(child, stop)));
    const failed = ends.find(({ code }) => code !== 0);
    if (!failed || signal.aborted) return failed?.code ?? 0;
    throw new UserError(failed.said ?? 'A process of the evaluation failed; see above.', { exitCode: failed.code });
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** A share of the cores, and a GPU of its own where there are. */
function environmentOf({ index, count }: Part): Record<string, string> {
  const gpus = process.env[GPUS]?.split(',');
  return {
    [VARIABLE]: `${index}/${count}`,
    [THREADS]: process.env[THREADS] ?? `${Math.max(1, Math.floor(availableParallelism() / count))}`,
    [GPUS]: gpus ? gpus[index % gpus.length]! : `${index}`,
  };
}

function endOf(child: ChildProcess, onFailure: () => void): Promise<{ code: number; said: string | undefined }> {
  return new Promise((resolve, reject) => {
    let said = '';
    child.stderr?.on('data', (bytes: Buffer) => {
      said = (said + bytes.toString()).slice(-4000);
    });
    child.on('error', reject);
    child.on('exit', (code) => {
      if (code !== 0) onFailure();
      resolve({ code: code ?? 1, said: child.stderr ? said.trim().split('\n').at(-1) : undefined });
    });
  });
}
