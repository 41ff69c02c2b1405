/** The frame of every command: options parsed by yargs, and one rule for errors and exit codes. */
import { statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import yargs, { type Argv } from 'yargs';
import { actionOf, explainSystemError, UserError } from '../errors.js';
import { EXIT } from '../exit_codes.js';
import { oneLine, shown } from '../shown.js';
import { VERSION } from '../version.js';
import { beforeDashes, misused, namesOf, type OptionKinds, putAway, reserved, unknownOption } from './as_typed.js';
import { painted } from './colour.js';
import { checkDirectory } from './files.js';
import { nearest } from './nearest.js';
import { watchOutput } from './output.js';
import { shutDebugger } from './signals.js';
import { commandInLine, mergedKinds } from './sub_commands.js';

/** How every command reads its line: digits stay as they are typed, and `--name.x` is no part of `--name`. */
export const parsing = { 'parse-positional-numbers': false, 'dot-notation': false } as const;

/** Commands that read the rest of the line themselves, by their names. */
export type OtherCommands = Readonly<Record<string, (argv: string[]) => Promise<number>>>;

/**
 * Parses `argv` and runs the command, which may give an exit code. A user's mistake is its message on stderr, alone, and
 * the error's exit code; a fault of the program is told as such, with its stack. `EXIT` has the codes.
 *
 * @param others called where the line names one of them, before its options or after; it takes no other words
 */
export async function runCommand<Args>(
  argv: string[],
  define: (parser: Argv) => Argv<Args>,
  run: (args: Args) => Promise<unknown>,
  others: OtherCommands = {},
): Promise<number> {
  watchOutput();
  shutDebugger();
  let restore = <T>(value: T): T => value;
  let words: readonly string[] = argv;
  try {
    const parser = define(
      yargs()
        .strict()
        .version(VERSION)
        .help()
        .completion('completion', 'Prints a script for bash or zsh that completes this command’s options')
        .exitProcess(false)
        .parserConfiguration(parsing)
        .fail((message, error) => {
          if (error && error.name !== 'YError') throw error;
          const cause = causeOf(restore(message ?? error.message), words, kindsNow());
          throw new UsageError(withCommand(withSuggestion(cause, kindsNow(), commandsOf(parser))));
        }),
    );
    if (await completed(argv, parser)) return EXIT.done;
    const kindsNow = () => (parser as unknown as { getOptions(): OptionKinds }).getOptions();
    const kinds = kindsNow();
    const line = withCommandFirst(argv, parser, kinds, Object.keys(others));
    const word = line[0] ?? '';
    // `constructor` is a word like any other, and every object has one.
    const other = Object.hasOwn(others, word) ? others[word] : undefined;
    if (other) {
      wordOfCommand = argv[0] === word ? undefined : word;
      return await other(line.slice(1)).finally(() => {
        wordOfCommand = undefined;
      });
    }
    // Options of a command of the command are declared when it is parsed: too late for what yargs takes and should not.
    const known = commandsOf(parser).includes(word) ? mergedKinds([kinds, kindsOfCommand(parser, word)]) : kinds;
    const misuse = misused(line, known);
    if (misuse) throw new UsageError(misuse);
    const typed = putAway(line, known);
    restore = typed.restore;
    words = typed.argv;
    const taken = reserved(typed.argv);
    if (taken !== undefined) throw new UsageError(`Unknown argument: ${taken}`);
    const unsorted = (values: Record<string, unknown>) => {
      for (const [name, value] of Object.entries(values)) values[name] = restore(value);
    };
    parser.requiresArg([...kinds.string, ...kinds.number]);
    parser.middleware(unsorted, true).check((values) => checkValues(values, kindsNow()), true);
    const args = (await parser.parseAsync(typed.argv)) as Args & { help?: boolean; version?: boolean };
    if (args.help || args.version) return EXIT.done;
    const code = await run(args);
    return typeof code === 'number' ? code : EXIT.done;
  } catch (error) {
    return tell(error);
  }
}

/** The word that was read as the command, where it stands behind options: it may have been meant for something else. */
let wordOfCommand: string | undefined;

const withCommand = (message: string) =>
  wordOfCommand !== undefined && message.startsWith('Unknown argument')
    ? `${message}; '${shown(wordOfCommand)}' was read as the command`
    : message;

/** What is missing may be there, misspelt: then that is the thing to say. */
function causeOf(message: string, words: readonly string[], kinds: OptionKinds): string {
  const unknown = /^(Missing required|Not enough)/.test(message) ? unknownOption(words, kinds) : undefined;
  return unknown === undefined ? message : `Unknown argument: ${unknown}`;
}

/** Names the option, or the command, that somebody may have meant who typed one that is none. */
function withSuggestion(message: string, kinds: OptionKinds, commands: readonly string[] = []): string {
  const [, dashes, unknown] = /^Unknown arguments?: (-*)([\w-]+)/.exec(message) ?? [];
  if (unknown === undefined || unknown.length < 2) return message;
  const command = dashes === '' ? nearest(unknown.toLowerCase(), commands) : undefined;
  if (command !== undefined) return `${message}; did you mean ${command}?`;
  const names = [...kinds.string, ...kinds.number, ...kinds.boolean].filter((name) => /^[a-z][a-z0-9-]+$/.test(name));
  const meant = nearest(unknown.toLowerCase(), names);
  return meant === undefined ? message : `${message}; did you mean --${meant}?`;
}

/** The commands of a command, such as `train` of `sb-tokenizer`. */
function commandsOf(parser: Argv): string[] {
  interface Internal {
    getInternalMethods(): { getCommandInstance(): { getCommands(): string[] } };
  }
  const internal = (parser as unknown as Internal).getInternalMethods();
  const names = internal.getCommandInstance().getCommands();
  return names.filter((name) => name !== 'completion');
}

/** The options of one of them. */
function kindsOfCommand(parser: Argv, name: string): OptionKinds {
  interface Internal {
    getInternalMethods(): {
      getCommandInstance(): { getCommandHandlers(): Record<string, { builder: unknown }> };
    };
  }
  const handlers = (parser as unknown as Internal).getInternalMethods().getCommandInstance().getCommandHandlers();
  const { builder } = handlers[name]!;
  const own = yargs();
  if (typeof builder === 'function') builder(own);
  return (own as unknown as { getOptions(): OptionKinds }).getOptions();
}

/**
 * The line with its command in the first place, as it can only be read then: which words are values depends on the command.
 *
 * @param others those that need not be named
 * @throws UsageError where one must be named, or may be misspelt
 */
function withCommandFirst(argv: string[], parser: Argv, kinds: OptionKinds, others: readonly string[]): string[] {
  const own = commandsOf(parser);
  const all = [...own, ...others];
  if (all.length === 0) return argv;
  const merged = mergedKinds([kinds, ...own.map((name) => kindsOfCommand(parser, name))]);
  const found = commandInLine(argv, all, merged);
  if (found && 'at' in found) return [argv[found.at]!, ...argv.toSpliced(found.at, 1)];
  const asksForHelp = beforeDashes(argv).some((word) => /^(--help|--version)$/.test(word));
  if (asksForHelp) return argv;
  if (found?.meant !== undefined)
    throw new UsageError(`Unknown command: ${shown(found.misspelt)}; did you mean ${found.meant}?`);
  if (own.length === 0) return argv;
  if (found) throw new UsageError(`Unknown command: ${shown(found.misspelt) || "''"}; expected ${all.join(', ')}`);
  // What looks like an option may be meant for one.
  if (unknownOption(argv, merged) === undefined) throw new UsageError(`Name a command: ${own.join(', ')}.`);
  return argv;
}

/** Prints the script for a shell's completion, or what that script asks for; nothing else of the command is run. */
async function completed(argv: readonly string[], parser: Argv): Promise<boolean> {
  if (argv.length === 1 && argv[0] === 'completion') {
    (parser as unknown as { showCompletionScript(): void }).showCompletionScript();
    return true;
  }
  if (argv[0] !== '--get-yargs-completions') return false;
  // Half a command line may lack what the command asks for; then there is nothing to offer, and nobody to tell.
  const words = await parser.getCompletion(argv.slice(1) as string[]).catch(() => []);
  for (const word of words) process.stdout.write(`${word}\n`);
  return true;
}

/** Says on stderr what went wrong. @returns the exit code */
function tell(error: unknown): number {
  const { message, exitCode } = faultOf(error);
  process.stderr.write(`${painted('red', message, process.stderr)}\n`);
  return exitCode;
}

/** What a command says of an error that ends it, and its exit code: one line, or the stack of a fault of the program. */
export function faultOf(error: unknown): { message: string; exitCode: number } {
  const told = (isUserError(error) ? error : explainSystemError(error, actionOf(error))) as Error;
  if (isUserError(told)) return { message: oneLine(told.message), exitCode: told.exitCode ?? EXIT.mistake };
  return {
    message: `This is a fault of the program, not of its input; please report it.\n${told?.stack ?? told}`,
    exitCode: EXIT.internal,
  };
}

/** Also of another copy of this package. */
const isUserError = (error: unknown): error is UserError => (error as Error | undefined)?.name === 'UserError';

/** yargs makes a list of an option that is given twice, NaN of a word where a number belongs, and --max-x of --MAX-X. */
function checkValues(args: Record<string, unknown>, kinds: OptionKinds): true {
  const { all } = namesOf(kinds);
  const misspelt = Object.keys(args).find((name) => !all.has(name) && all.has(name.toLowerCase()));
  if (misspelt !== undefined) throw new UsageError(withSuggestion(`Unknown argument: ${misspelt}`, kinds));
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
    super(`${message.replaceAll(/\s+/g, ' ')} (see --help)`, { exitCode: EXIT.usage });
  }
}

/** Checks that a file can be written, in a folder that need not be there yet, before the work, which may take hours. */
export function checkOutput(path: string): void {
  if (path === '') throw new UserError('The file to be written has an empty name.');
  const action = `cannot write ${path}`;
  try {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory())
      throw new UserError(`${action}: it is a directory; name a file.`);
  } catch (error) {
    throw explainSystemError(error, action);
  }
  checkDirectory(dirname(resolve(path)));
}
