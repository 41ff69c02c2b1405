/** Progress of a command: one line that is rewritten on a terminal, plain lines at intervals elsewhere. */

/** What a progress line needs of a stream, such as stderr. */
export interface ProgressStream {
  isTTY?: boolean;
  /** 0 where the terminal does not say, as in some containers */
  columns?: number;
  /** Writes text to it. */
  write(text: string): unknown;
}

/** Options of `progressLine`. */
export interface ProgressLineOptions {
  /** Default: stderr. */
  stream?: ProgressStream;
  /** Seconds between plain lines. */
  interval?: number;
}

/** A line that shows progress. */
export interface ProgressLine {
  /** Shows a line that the next one replaces. Some calls are ignored, unless `always`. */
  show(line: string, always?: boolean): void;
  /** Prints a line that stays. */
  say(line: string): void;
  /** Removes the line from a terminal. */
  clear(): void;
  /** Ends the line, leaving it on the terminal. */
  end(): void;
}

/** A progress line on a stream: one line rewritten on a terminal, plain lines at intervals elsewhere. */
export function progressLine({ stream = process.stderr, interval = 10 }: ProgressLineOptions = {}): ProgressLine {
  const terminal = stream.isTTY === true;
  let shownAt = Number.NEGATIVE_INFINITY;
  let open = false;
  const end = () => {
    if (open) stream.write('\n');
    open = false;
  };
  return {
    show: (line, always = false) => {
      const now = performance.now() / 1000;
      if (!always && now - shownAt < (terminal ? 0.1 : interval)) return;
      shownAt = now;
      stream.write(terminal ? `\r\x1b[K${line.slice(0, (stream.columns || 80) - 1)}` : `${line}\n`);
      open = terminal;
    },
    say: (line) => {
      end();
      stream.write(`${line}\n`);
    },
    clear: () => {
      if (open) stream.write('\r\x1b[K');
      open = false;
    },
    end,
  };
}
