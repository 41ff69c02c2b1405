/** The system's C++ compiler, and the kernels of `kernels/` compiled with it into one shared library. */
import { execFile, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeDirectory } from '@stickbreaking/base/node';

/** `backends/native/kernels/` of the package, or of the bundle that this program came in. */
function findSources(): string {
  const start = dirname(fileURLToPath(import.meta.url));
  for (let at = start; ; at = dirname(at)) {
    if (existsSync(join(at, 'backends/native/kernels', 'parallel.h'))) return join(at, 'backends/native/kernels');
    if (at === dirname(at)) return join(start, 'backends/native/kernels');
  }
}

const sourceDirectory = findSources();
export const flags: readonly string[] = [
  // On ARM the same is asked under another name.
  ...['-O3', process.arch === 'arm64' ? '-mcpu=native' : '-march=native', '-std=c++17', '-fPIC', '-pthread'],
  ...['-fno-math-errno', '-ffp-contract=fast', '-fopenmp-simd'],
];
const linkFlags = ['-shared', '-pthread', ...(process.platform === 'linux' ? ['-ldl'] : [])];

export interface Compiler {
  command: string;
  /** The first line of its --version. */
  version: string;
}

/** $CXX, or the first of c++, g++ and clang++ that runs. */
export function findCompiler(): Compiler {
  const named = process.env.CXX?.trim();
  const commands = named ? [named] : ['c++', 'g++', 'clang++'];
  for (const command of commands) {
    const answer = spawnSync(command, ['--version'], { encoding: 'utf8' });
    if (answer.status === 0) return { command, version: answer.stdout.split('\n')[0] ?? '' };
  }
  throw new Error(
    named
      ? `the C++ compiler '${named}' that CXX names does not run`
      : 'no C++ compiler was found (c++, g++, clang++); install one, or name one in CXX',
  );
}

/** Every source and header by name, in a fixed order. */
export function readSources(): Map<string, Buffer> {
  const names = readdirSync(sourceDirectory).filter((name) => /\.(cpp|h)$/.test(name));
  return new Map(names.sort().map((name) => [name, readFileSync(join(sourceDirectory, name))]));
}

/**
 * Compiles every source on its own, as many at once as there are cores, and links them.
 *
 * @param directory an empty one, which gets the objects and the library
 * @param logDirectories where the compiler's message is kept if it fails: in the first that is writable
 * @returns the library's path
 */
export async function compile(compiler: Compiler, directory: string, logDirectories: readonly string[]) {
  const sources = [...readSources().keys()].filter((name) => name.endsWith('.cpp'));
  const library = join(directory, 'kernels.so');
  const objects = sources.map((name) => join(directory, `${name}.o`));
  const waiting = sources.map((name, i) => ['-c', join(sourceDirectory, name), '-o', objects[i]!]);
  const messages: string[] = [];
  const work = async () => {
    for (let job = waiting.shift(); job; job = waiting.shift()) {
      const message = await run(compiler.command, [...flags, ...job]);
      if (message !== undefined) messages.push(message);
    }
  };
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), sources.length) }, work));
  if (messages.length === 0) {
    const message = await run(compiler.command, [...linkFlags, '-o', library, ...objects]);
    if (message !== undefined) messages.push(message);
    else if (!existsSync(library)) messages.push('it ended without a library');
  }
  if (messages.length > 0) {
    throw new Error(`${compiler.command} could not compile the kernels; ${keepMessage(messages, logDirectories)}`);
  }
  return library;
}

/** Undefined if the command succeeds, otherwise its output. */
function run(command: string, args: string[]): Promise<string | undefined> {
  return new Promise((resolve) => {
    execFile(command, args, { encoding: 'utf8', maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      resolve(error ? `${stdout}${stderr}` || error.message : undefined);
    });
  });
}

/** Writes the message to the first directory possible; returns a clause that says where, or its first line if nowhere. */
function keepMessage(messages: readonly string[], directories: readonly string[]): string {
  const text = messages.join('\n');
  for (const directory of directories) {
    const log = join(directory, 'compile.log');
    try {
      makeDirectory(directory);
      writeFileSync(log, text);
      return `its message is in ${log}`;
    } catch {
      // Read-only or full: the next one.
    }
  }
  return `it said: ${text.trim().split('\n')[0]}`;
}
