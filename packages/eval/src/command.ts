/** What the commands share: running under one rule for errors, and a progress line. */
import yargs, { type Argv } from 'yargs';

/**
 * Parses `argv` and runs the command, which may give an exit code. A user's mistake is its message on stderr, alone, and
 * exit code 1.
 */
export async function runCommand<Args>(
  argv: string[],
  define: (parser: Argv) => Argv<Args>,
  run: (args: Args) => Promise<unknown>,
): Promise<number> {
  try {
    const parser = define(
      yargs(argv)
        .strict()
        .version(false)
        .help()
        .fail((message, error) => {
          throw error ?? new UsageError(message);
        }),
    );
    const args = await parser.parseAsync();
    if ((args as { help?: boolean }).help) return 0;
    const code = await run(args as Args);
    return typeof code === 'number' ? code : 0;
  } catch (error) {
    const { name, message } = error as Error;
    if (name !== 'UserError') throw error;
    process.stderr.write(`${message}\n`);
    return 1;
  }
}

class UsageError extends Error {
  override readonly name = 'UserError';
  constructor(message: string) {
    super(`${message.replaceAll('\n', ' ')} (see --help)`);
  }
}

/** A line on stderr that a terminal overwrites; elsewhere a line now and then. */
export function progressLine(): { show(text: string): void; clear(): void } {
  const terminal = process.stderr.isTTY;
  let last = 0;
  return {
    show: (text) => {
      const now = Date.now();
      if (now - last < (terminal ? 100 : 10_000)) return;
      last = now;
      process.stderr.write(terminal ? `\r\x1b[2K${text}` : `${text}\n`);
    },
    clear: () => {
      if (terminal) process.stderr.write('\r\x1b[2K');
    },
  };
}
