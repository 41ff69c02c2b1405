/** Ctrl-C and SIGTERM: the first lets the current work save, the second ends the process. */

/** Exit codes as a shell knows them of a process that a signal ended. */
const exitCodes = { SIGINT: 130, SIGTERM: 143 } as const;

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
 * Listens for SIGINT and SIGTERM until released.
 *
 * @param onStop called with the first signal
 */
export function stopOnSignals(onStop?: (signal: NodeJS.Signals) => void): Stop {
  const controller = new AbortController();
  let exitCode = 0;
  const leave = (name: NodeJS.Signals) => {
    const isSecond = exitCode !== 0;
    exitCode = exitCodes[name as keyof typeof exitCodes];
    if (isSecond) process.exit(exitCode);
    onStop?.(name);
    controller.abort();
  };
  for (const name of Object.keys(exitCodes)) process.on(name, leave);
  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode;
    },
    stop: () => controller.abort(),
    release: () => {
      for (const name of Object.keys(exitCodes)) process.off(name, leave);
    },
  };
}
