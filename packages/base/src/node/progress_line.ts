/** What is shown while a command works: one line that a terminal writes over, plain lines now and then elsewhere. */

export interface ProgressLineOptions {
  /** Default: stderr. */
  stream?: { isTTY?: boolean; columns?: number; write(text: string): unknown };
  /** Seconds between plain lines. */
  interval?: number;
}

export interface ProgressLine {
  /** Shows a line that the next one replaces; not every time it is called, unless `always`. */
  show(line: string, always?: boolean): void;
  /** A line that stays, between those that are replaced. */
  say(line: string): void;
  /** Takes the line away from a terminal. */
  clear(): void;
  /** Leaves the line standing. */
  end(): void;
}

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
      stream.write(terminal ? `\r\x1b[K${line.slice(0, (stream.columns ?? 80) - 1)}` : `${line}\n`);
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
