import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { OptionError } from '../errors.js';

/**
 * @param option such as --processes
 * @throws UserError where it is not the number of processes that this machine could run
 */
export function checkProcesses(option: string, count: number): void {
  const cores = availableParallelism();
  const most = Math.max(16, 4 * cores);
  if (Number.isInteger(count) && count >= 1 && count <= most) return;
  const here = cores === 1 ? '1 core' : `${cores} cores`;
  throw new OptionError(option, count, `a whole number from 1 to ${most}, as this machine has ${here}`);
}

/** Whether a process of this machine lives. One that was killed and not yet waited for by its parent does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  return !statusOf(pid)?.startsWith('Z'); // in a container a killed process may never be waited for
}

/** When a process was started, in the system's ticks since the machine was; undefined where that cannot be read. */
export function startOf(pid: number): string | undefined {
  return statusOf(pid)?.split(' ')[19];
}

/**
 * The most memory that this process has had, in bytes. `resourceUsage().maxRSS` counts on Linux what its parent had when it
 * started this process; `VmHWM` begins anew with the program.
 */
export function peakMemory(): number {
  const kilobytes = /^VmHWM:\s*(\d+) kB/m.exec(readOrEmpty('/proc/self/status'))?.[1];
  return 1024 * (kilobytes === undefined ? process.resourceUsage().maxRSS : Number(kilobytes));
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** What Linux says of a process after its name (proc(5), from field 3 on). */
function statusOf(pid: number): string | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return status.slice(status.lastIndexOf(')') + 2);
  } catch {
    return undefined;
  }
}
