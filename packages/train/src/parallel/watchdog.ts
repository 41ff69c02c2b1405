// Watches over the processes of a run: they find each other, agree on what they run, and where one is gone or hangs all
// others end, saying which and when. It runs in a thread of its own: the main thread may be stuck in a kernel or in MPI.
import { randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import { hostname, networkInterfaces } from 'node:os';
import { Worker } from 'node:worker_threads';
import { EXIT, UserError, VERSION } from '@stickbreaking/base';
import {
  EXCHANGES,
  type FromThread,
  type Hello,
  SILENCE,
  type ThreadData,
  type ToThread,
  watch,
} from './watchdog_thread.js';

/** Where rank 0 listens, and the word by which the run's own processes are known. */
export interface Meeting {
  hosts: string[];
  port: number;
  token: string;
}

export interface WatchdogOptions {
  rank: number;
  size: number;
  /** Plain JSON that must be equal everywhere. */
  identity: unknown;
  /** What stands for the process in messages, such as its GPU; no two on a machine may have the same. */
  device?: string;
  /** Where to meet; rank 0 without one opens a port of its own. */
  meeting?: Meeting;
  /** What rank 0 tells the others once all are there. */
  payload?: unknown;
  heartbeatSeconds?: number;
  startSeconds?: number;
  timeoutSeconds?: number;
}

export type ExchangeKind = (typeof EXCHANGES)[number];

export class Watchdog {
  private readonly integers: Int32Array;
  private readonly floats: Float64Array;
  /** Where rank 0 listens; set once it does. */
  readonly meeting: Promise<Meeting>;
  /** Rank 0's payload, once all are there. */
  readonly ready: Promise<unknown>;
  private readonly thread: Worker;
  private readonly closed: Promise<void>;

  constructor(options: WatchdogOptions) {
    const { rank, size, identity, device = '', payload = null } = options;
    const { heartbeatSeconds = 0.7, startSeconds = 300, timeoutSeconds = 600 } = options;
    const meeting = options.meeting ?? { hosts: addresses(), port: 0, token: randomBytes(16).toString('hex') };
    const hello: Hello = { rank, size, version: VERSION, identity, host: hostname(), device, pid: process.pid };
    const progress = new SharedArrayBuffer(24);
    this.integers = new Int32Array(progress, 0, 4);
    this.floats = new Float64Array(progress, 16, 1);
    const koffi = createRequire(import.meta.url).resolve('koffi');
    const workerData: ThreadData = {
      ...{ hello, ...meeting, payload, progress, koffi },
      ...{ heartbeatSeconds, startSeconds, timeoutSeconds },
    };
    const code = `const { parentPort, workerData } = require('node:worker_threads');
(${watch.toString()})(require, workerData, parentPort, ${JSON.stringify(EXCHANGES)}, ${JSON.stringify(SILENCE)});`;
    this.thread = new Worker(code, { eval: true, workerData, stdout: false, stderr: false });
    this.thread.unref();
    const message = <T>(pick: (message: FromThread) => T | undefined) =>
      new Promise<T>((resolve, reject) => {
        this.thread.on('message', (one: FromThread) => {
          if ('refused' in one) reject(new UserError(`The processes of the run cannot meet: ${one.refused}.`));
          const picked = pick(one);
          if (picked !== undefined) resolve(picked);
        });
        this.thread.on('error', reject);
      });
    this.meeting =
      rank === 0
        ? message((one) => ('listening' in one ? { ...meeting, port: one.listening } : undefined))
        : Promise.resolve(meeting);
    const ready = message((one) => ('ready' in one ? { payload: one.ready } : undefined));
    this.ready = ready.then(({ payload }) => payload);
    this.closed = message((one) => ('closed' in one ? true : undefined)).then(() => {});
    for (const one of [this.meeting, this.ready, this.closed]) one.catch(() => {});
  }

  /** The step that is being worked on. */
  step(step: number): void {
    Atomics.store(this.integers, 0, step);
  }

  /** This process waits for the others from here to `end`. */
  begin(kind: ExchangeKind): void {
    this.floats[0] = Date.now();
    Atomics.store(this.integers, 2, EXCHANGES.indexOf(kind));
    Atomics.add(this.integers, 1, 1);
    Atomics.store(this.integers, 3, 1);
  }
  end(): void {
    Atomics.store(this.integers, 3, 0);
  }

  /** The newest checkpoint, named where the run ends early. */
  checkpoint(name: string): void {
    this.tell({ checkpoint: name });
  }

  /** Ends the run for all, with this process's reason, which rank 0 prints. Does not return. */
  fail(reason: string, code: number = EXIT.mistake): Promise<never> {
    this.thread.ref();
    this.tell({ fail: reason, code });
    return new Promise(() => {});
  }

  /** Says goodbye. Rank 0 waits a little for the others to do so too. */
  async close(): Promise<void> {
    this.thread.ref();
    this.tell({ close: true });
    await this.closed;
    await this.thread.terminate();
  }

  private tell(message: ToThread): void {
    this.thread.postMessage(message);
  }
}

/** Where this machine can be reached, by others and by itself. */
export function addresses(): string[] {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return [
    '127.0.0.1',
    ...all.filter(({ internal, family }) => !internal && family === 'IPv4').map((one) => one.address),
  ];
}
