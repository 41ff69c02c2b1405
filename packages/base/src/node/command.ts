/** The frame of every command: options parsed by yargs, and one rule for errors and exit codes. */
import { statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import yargs, { type Argv } from 'yargs';
import { explainSystemError, UserError } from '../errors.js';

/** What yargs knows of the options, which its types leave out. */
interface OptionKinds {
  string: string[];
  number: string[];
  boolean: string[];
  array: string[];
}

/**
 * Parses `argv` and runs the command, which may return an exit code. For a user's mistake it prints only its message, to
 * stderr, and exits with 1.
 */
export async function runCommand<Args>(
  argv: string[],
  define: (parser: Argv) => Argv<Args>,
  run: (args: Args) => Promise<unknown>,
): Promise<number> {
  if (!process.stdout.listeners('error').includes(leaveWhenUnread)) process.stdout.on('error', leaveWhenUnread);
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
    const optionKinds = () => (parser as unknown as { getOptions(): OptionKinds }).getOptions();
    const args = await parser.check((values) => checkValues(values, optionKinds()), true).parseAsync();
    if ((args as { help?: boolean }).help) return 0;
    const code = await run(args as Args);
    return typeof code === 'number' ? code : 0;
  } catch (error) {
    const { name } = error as Error;
    const told = (name === 'UserError' ? error : explainSystemError(error, 'cannot go on')) as Error;
    if (told.name !== 'UserError') throw error;
    process.stderr.write(`${told.message}\n`);
    return 1;
  }
}

/** A reader that has seen enough, such as `head`, closes the pipe: nobody is left to write to. */
function leaveWhenUnread(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
}

/** yargs makes a list of an option that is given twice, and NaN of a word where a number belongs. */
function checkValues(args: Record<string, unknown>, kinds: OptionKinds): true {
  for (const name of [...kinds.string, ...kinds.number, ...kinds.boolean]) {
    if (Array.isArray(args[name]) && !kinds.array.includes(name)) {
      throw new UsageError(`--${name} was given more than once; expected it once`);
    }
    if (kinds.number.includes(name) && Number.isNaN(args[name])) {
      throw new UsageError(`--${name} expects a number`);
    }
  }
  return true;
}

class UsageError extends UserError {
  constructor(message: string) {
    super(`${message.replaceAll(/\s+/g, ' ')} (see --help)`);
  }
}

/** Checks the directory of a file to be written, before the work, which may take hours. */
export function checkOutput(path: string): void {
  const directory = dirname(resolve(path));
  if (!statSync(directory, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UserError(`cannot write ${path}: there is no directory ${directory}.`);
  }
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UserError(`cannot write ${path}: it is a directory; name a file.`);
  }
}
