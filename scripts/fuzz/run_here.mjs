// Runs a command of the project in this process and catches what it prints and how it ends.
import { Readable } from 'node:stream';

class Exit extends Error {
  constructor(code) {
    super(`exit ${code}`);
    this.code = code;
  }
}

/** @returns `{ code, stdout, stderr }`, or `{ error, stdout, stderr }` where it threw */
export async function runHere(main, args) {
  const printed = { stdout: '', stderr: '' };
  const real = { exit: process.exit, stdout: process.stdout.write, stderr: process.stderr.write };
  let fail;
  const failed = new Promise((_, reject) => {
    fail = reject;
  });
  failed.catch(() => {});
  for (const name of ['stdout', 'stderr']) {
    process[name].write = (text) => {
      if (printed[name].length < 1e6) printed[name] += text;
      return true;
    };
  }
  // A stream can be read to its end once only.
  Object.defineProperty(process, 'stdin', { configurable: true, value: Readable.from(['It is so\n']) });
  process.exit = (code) => {
    throw new Exit(code ?? 0);
  };
  process.on('uncaughtException', fail);
  process.on('unhandledRejection', fail);
  try {
    return { code: await Promise.race([main(args), failed]), ...printed };
  } catch (error) {
    return error instanceof Exit ? { code: error.code, ...printed } : { error, ...printed };
  } finally {
    process.off('uncaughtException', fail);
    process.off('unhandledRejection', fail);
    process.exit = real.exit;
    process.stdout.write = real.stdout;
    process.stderr.write = real.stderr;
  }
}
