/**
 * What asks a command to stop: Ctrl-C, a terminal that is closed, and what schedulers send before they end a job. The
 * first lets the work at hand save, the second ends the process.
 */
import { constants } from 'node:os';
import { keepWritingUnread } from './output.js';

/**
 * Signals that ask a command to stop. Schedulers send some of them ahead of a limit: Slurm SIGUSR1 where it is asked to
 * (`--signal=USR1@120`), Grid Engine and LSF SIGUSR2, and the system itself SIGXCPU (`ulimit -t`). Listened to, SIGUSR1
 * does not open Node's debugger.
 */
export const STOP_SIGNALS: readonly NodeJS.Signals[] =
  process.platform === 'win32'
    ? ['SIGINT', 'SIGTERM', 'SIGHUP']
    : ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU'];

/** They end no work that is being saved: nobody at a terminal sends them, and they may come more than once. */
const isWarning = (name: NodeJS.Signals) => name !== 'SIGINT' && name !== 'SIGTERM';

/** The exit code by which a shell knows a process that a signal ended. */
export const exitCodeOf = (signal: NodeJS.Signals): number => 128 + constants.signals[signal];

/** Whether the work at hand has been asked to stop. */
export interface Stop {
  /** Aborted by the first signal, or by `stop`. */
  readonly signal: AbortSignal;
  /** 0 until a signal arrives. */
  readonly exitCode: number;
  /** Asks the work to stop, as the first signal does. */
  stop(): void;
  /** Stops listening. */
  release(): void;
}

/**
 * From here to `release` the work outlives whoever reads what it prints: a pipe that is closed does not end it.
 *
 * @param onStop told of the first signal
 */
export function stopOnSignals(onStop?: (signal: NodeJS.Signals) => void): Stop {
  const controller = new AbortController();
  let exitCode = 0;
  const leave = (name: NodeJS.Signals) => {
    const isSecond = exitCode !== 0;
    // A terminal that goes away may say so more than once, and a scheduler may follow one signal by another.
    if (isSecond && isWarning(name)) return;
    exitCode = exitCodeOf(name);
    if (isSecond) process.exit(exitCode);
    onStop?.(name);
    controller.abort();
  };
  for (const name of STOP_SIGNALS) process.on(name, leave);
  const readersMatter = keepWritingUnread();
  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode;
    },
    stop: () => controller.abort(),
    release: () => {
      for (const name of STOP_SIGNALS) process.off(name, leave);
      readersMatter();
    },
  };
}

let isDebuggerShut = false;

/** Where nothing else listens to SIGUSR1, it ends the process as the others do, and opens no debugger. */
export function shutDebugger(): void {
  if (isDebuggerShut || process.platform === 'win32') return;
  isDebuggerShut = true;
  process.on('SIGUSR1', (name) => {
    if (process.listenerCount(name) === 1) process.exit(exitCodeOf(name));
  });
}
