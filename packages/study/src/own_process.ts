/** This command again in a process of its own, which sends messages and may fail with a last line. */
import { spawn } from 'node:child_process';
import { after } from '@stickbreaking/base/node';

export interface OwnProcess {
  /** The command's file and its arguments. */
  args: readonly string[];
  env?: NodeJS.ProcessEnv;
  /** Ends the process with `stopWith`, as more than `timeout` milliseconds do. */
  signal: AbortSignal;
  stopWith: NodeJS.Signals;
  timeout?: number;
  onMessage(message: never): void;
}

export interface Ended {
  code: number | null;
  killedBy: NodeJS.Signals | null;
  /** The last line that it wrote to stderr, or how it ended. */
  lastLine: string;
}

export function runOwnProcess({ args, env, signal, stopWith, timeout, onMessage }: OwnProcess): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      ...(env ? { env } : {}),
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    const stop = () => child.kill(stopWith);
    const forget = timeout === undefined ? undefined : after(timeout, stop);
    let complaint = '';
    signal.addEventListener('abort', stop);
    child.stderr!.on('data', (chunk) => {
      complaint = `${complaint}${chunk}`.slice(-4000);
    });
    child.on('message', (message) => onMessage(message as never));
    child.on('error', (error) => {
      forget?.();
      reject(error);
    });
    child.on('close', (code, killedBy) => {
      signal.removeEventListener('abort', stop);
      forget?.();
      const lastLine = complaint.trim().split('\n').at(-1) || `its process ended with ${killedBy ?? code}`;
      resolve({ code, killedBy, lastLine });
    });
  });
}

/** In such a process: tells the one that started it. */
export function tellParent<Message extends object>(message: Message): void {
  process.send?.(message);
}
