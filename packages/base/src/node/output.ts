/** What becomes of a command when nobody reads what it prints any more, or it cannot be written. */
import { explainSystemError } from '../errors.js';
import { EXIT } from '../exit_codes.js';

/** A command's results as one JSON document, the only thing that `--json` leaves on standard output. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
}

/** The `--json` of every command that has results. */
export const jsonOption = {
  json: { type: 'boolean', default: false, describe: 'print JSON and nothing else' },
} as const;

/** How many pieces of work go on whether they are read or not. */
let unread = 0;
let watched = false;

/** Watches stdout and stderr, once a process. */
export function watchOutput(): void {
  if (watched) return;
  watched = true;
  process.stdout.on('error', onStdoutError);
  // What cannot be said on stderr cannot be said; it ends nothing.
  process.stderr.on('error', () => {});
}

/** Until the function that it returns is called, work goes on though its output is not read. */
export function keepWritingUnread(): () => void {
  watchOutput();
  unread++;
  let given = false;
  return () => {
    if (!given) unread--;
    given = true;
  };
}

/** A reader that has seen enough, such as `head`, closes the pipe; a terminal that is closed fails with EIO. */
function onStdoutError(error: NodeJS.ErrnoException): void {
  if (unread > 0) return;
  if (error.code === 'EPIPE' || error.code === 'EIO') process.exit(EXIT.done);
  process.stderr.write(`${(explainSystemError(error, 'cannot write to standard output') as Error).message}\n`);
  process.exit(EXIT.mistake);
}
