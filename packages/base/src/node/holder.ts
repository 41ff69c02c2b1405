/** Who holds a lock, as it is written into the lock's file for others to read. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { isAlive, startOf } from './process.js';

/** The process that holds a lock, on whichever machine. */
export interface LockHolder {
  pid: number;
  host: string;
  /** Of the machine since it was started, where the system has one. */
  boot: string | null;
  /** When the process was started, as the system counts; with `boot` no other process has ever had both. */
  start: string | null;
  /** When it took the lock. */
  since: string;
}

export function ownHolder(): LockHolder {
  return {
    pid: process.pid,
    host: hostname(),
    boot: bootId(),
    start: startOf(process.pid) ?? null,
    since: new Date().toISOString(),
  };
}

/** What a lock's file says, or undefined where it says nothing that makes sense. */
export function parseHolder(text: string): LockHolder | undefined {
  try {
    const { pid, host, boot, start, since } = JSON.parse(text) as Partial<LockHolder>;
    if (!Number.isInteger(pid) || typeof host !== 'string') return undefined;
    return { pid: pid!, host, boot: boot ?? null, start: start ?? null, since: String(since ?? 'an unknown time') };
  } catch {
    return undefined;
  }
}

/** Whether the process that a holder names runs no more. Of another machine nobody can tell. */
export function isGone({ pid, host, boot, start }: LockHolder): boolean {
  if (host !== hostname()) return false;
  if (boot !== null && boot !== bootId()) return true;
  return !isAlive(pid) || (start !== null && start !== startOf(pid));
}

function bootId(): string | null {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return null;
  }
}
