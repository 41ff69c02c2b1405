/** Running the commands of this project one after the other. */
import { spawn } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EXIT, UserError } from '@stickbreaking/base';

/** Standard output or standard error. */
type Stream = Pick<NodeJS.WriteStream, 'write'> & { fd: number };

/**
 * Runs a command and shows what it prints.
 *
 * @param options `capture` what it prints; `output`: where that and the command itself are shown, by default standard output;
 *   `own`: arguments that are of no use to who runs the command by hand, and are not shown
 * @returns what it printed, where that is asked for
 * @throws UserError with the command's exit code where it fails
 */
export async function runCommand(
  name: string,
  args: readonly string[],
  {
    capture = false,
    output = process.stdout,
    own = [],
  }: { capture?: boolean; output?: Stream; own?: readonly string[] } = {},
): Promise<string> {
  const start = performance.now();
  output.write(`$ npx ${[name, ...args].map(quoted).join(' ')}\n`);
  const child = spawn(process.execPath, [fileOf(name), ...args, ...own], {
    stdio: ['inherit', capture ? 'pipe' : output.fd, 'inherit'],
  });
  const forward = () => child.kill('SIGTERM');
  const wait = () => {}; // Ctrl-C reaches the command too, which saves; its exit code then ends this one
  process.on('SIGTERM', forward).on('SIGINT', wait);
  let printed = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    printed += text;
    output.write(text);
  });
  try {
    const code = await new Promise<number>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (status, signal) => resolve(status ?? 128 + constants.signals[signal!]));
    });
    if (code !== 0) {
      // What was refused once is refused again.
      const again = code === EXIT.refused ? 'Do what it says above, then run the quickstart again' : 'Run it again';
      throw new UserError(
        `The quickstart stopped: ${name} ended with ${code}. ${again} to go on from here, or remove quickstart/ to begin anew.`,
        { exitCode: code },
      );
    }
  } finally {
    process.off('SIGTERM', forward).off('SIGINT', wait);
  }
  output.write(`(${secondsSince(start)} s)\n`);
  return printed;
}

/** The package's own, or in a bundle the one beside the program that was started. */
function fileOf(name: string): string {
  const own = fileURLToPath(new URL(`../../bin/${name}.js`, import.meta.url));
  if (existsSync(own)) return own;
  const started = realpathSync(process.argv[1]!);
  return join(dirname(started), name + extname(started));
}

const quoted = (arg: string) => (/[\s"]/.test(arg) ? JSON.stringify(arg) : arg);

export const secondsSince = (start: number) => ((performance.now() - start) / 1000).toFixed(1);
