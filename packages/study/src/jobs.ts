/** Several arms at once, each in a process of its own: small models leave most of a GPU, or of many cores, idle. */
import { setMaxListeners } from 'node:events';
import { cpus } from 'node:os';
import { EXIT, UserError } from '@stickbreaking/base';
import { runOwnProcess } from './own_process.js';
import type { Arm, ArmContext } from './study.js';

/** Starts an arm in another process. Resolves to whether it was done, which is false if the signal stopped it. */
export type StartArm = (arm: Arm, slot: number, told: Told, signal: AbortSignal) => Promise<boolean>;

/** What an arm's process says while it works. */
export type Told = Pick<ArmContext, 'say' | 'notice'>;

/** The messages of an arm's process. */
export interface ArmMessage {
  said?: string;
  noticed?: string;
  done?: boolean;
}

export interface Queue {
  /** Arms to be run, in order. */
  arms: Arm[];
  jobs: number;
  signal: AbortSignal;
  /** Ids of arms that must be done, or skipped, before this one. */
  after(arm: Arm): readonly string[];
  /** Whether the arm is still wanted, given what has been done by now. */
  wanted(arm: Arm): boolean;
  start(arm: Arm, slot: number): Promise<boolean>;
  done(arm: Arm): Promise<void>;
}

/**
 * Keeps `jobs` arms running until none is left or the signal is aborted; an arm waits for those it depends on.
 *
 * @throws what the first arm that failed threw, once the others have ended; no arm is started after it
 */
export async function runTogether(queue: Queue): Promise<void> {
  setMaxListeners(queue.arms.length + 10, queue.signal); // each running arm listens; Node warns of more than ten
  const waiting = [...queue.arms];
  const free = Array.from({ length: Math.min(queue.jobs, queue.arms.length) }, (_, slot) => slot);
  const running = new Map<string, Promise<void>>();
  const failures: unknown[] = [];
  const settled = (id: string) => !running.has(id) && !waiting.some((arm) => arm.id === id);
  const launch = (arm: Arm, slot: number) => {
    const end = queue
      .start(arm, slot)
      .then(async (finished) => {
        if (finished) await queue.done(arm);
      })
      .catch((error) => failures.push(error))
      .finally(() => {
        running.delete(arm.id);
        free.push(slot);
      });
    running.set(arm.id, end as Promise<void>);
  };
  for (;;) {
    while (free.length > 0 && failures.length === 0 && !queue.signal.aborted) {
      const next = waiting.findIndex((arm) => queue.after(arm).every(settled));
      if (next < 0) break;
      const [arm] = waiting.splice(next, 1);
      if (queue.wanted(arm!)) launch(arm!, free.shift()!);
    }
    if (running.size === 0) break;
    await Promise.race(running.values());
  }
  if (failures.length > 0) throw failures[0];
}

/** The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them. */
export function gpuNames(visible: string | undefined, count: number): string[] {
  return visible?.split(',').filter(Boolean) ?? Array.from({ length: count }, (_, i) => String(i));
}

/** Cores and bytes of memory that an arm on the CPU should have for itself. */
const CORES = 8;
const MEMORY = 8 * 2 ** 30;

/** How many arms to run at once where nobody says: one on each GPU, or as many as have enough cores and memory. */
export function jobsFor({ gpus, cores, memory }: { gpus: number; cores: number; memory: number }): number {
  const byCores = Math.floor(cores / (gpus > 0 ? 1 : CORES));
  const byMemory = Math.floor(memory / MEMORY);
  return Math.max(1, Math.min(gpus > 0 ? gpus : Infinity, byCores, byMemory));
}

/**
 * Starts this command again for one arm. The processes share the machine: each gets its part of the cores, and the GPUs
 * are dealt out in turn.
 *
 * @param args the command's file and the arguments that led to this study
 * @param gpus as CUDA_VISIBLE_DEVICES names them; none where the backend is another
 */
export function startInProcess(args: readonly string[], jobs: number, gpus: readonly string[]): StartArm {
  const threads = process.env.STICKBREAKING_THREADS ?? String(Math.max(1, Math.floor(cpus().length / jobs)));
  return async (arm, slot, { say, notice }, signal) => {
    const gpu = gpus.length > 0 ? { CUDA_VISIBLE_DEVICES: gpus[slot % gpus.length]! } : {};
    let finished = false;
    const { code, lastLine } = await runOwnProcess({
      args: [...args, '--arm', arm.id],
      env: { ...process.env, STICKBREAKING_THREADS: threads, ...gpu },
      signal,
      stopWith: 'SIGTERM',
      onMessage: ({ said, noticed, done }: ArmMessage) => {
        if (said !== undefined) say(said);
        if (noticed !== undefined) notice(noticed);
        if (done) finished = true;
      },
    });
    if (!finished && !signal.aborted) throw new UserError(`${arm.id}: ${lastLine}`, { exitCode: code || EXIT.mistake });
    return finished;
  };
}
