/**
 * The C++ kernels of `native/`, compiled once for this machine with the system's compiler and kept in a cache. A
 * library counts only where its checksum beside it agrees, so that a half-written file is built anew, not loaded.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { cpus, homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import koffi from 'koffi';
import { chooseBlas } from './blas.js';

const sourceDirectory = fileURLToPath(new URL('../../../native/', import.meta.url));
const flags = [
  ...['-O3', '-march=native', '-std=c++17', '-fPIC', '-shared', '-pthread'],
  ...['-fno-math-errno', '-ffp-contract=fast', '-fopenmp-simd'],
  // Node unloads libraries as it leaves; threads of the pool may still be running in this one.
  ...(process.platform === 'linux' ? ['-Wl,-z,nodelete'] : []),
];

export interface Compiler {
  command: string;
  /** The first line that it says of itself. */
  version: string;
}

/** $CXX, or the first of c++, g++ and clang++ that answers. */
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

/** The path of a library that is whole and made for this machine, compiled now where the cache has none. */
export function buildLibrary(): { path: string; compiler: Compiler } {
  const compiler = findCompiler();
  const sources = readdirSync(sourceDirectory).filter((name) => /\.(cpp|h)$/.test(name));
  const hash = createHash('sha256').update(JSON.stringify([compiler, flags, cpuIdentity()]));
  for (const name of sources.sort()) hash.update(`\0${name}\0`).update(readFileSync(join(sourceDirectory, name)));
  const directory = writableDirectory(hash.digest('hex').slice(0, 24));
  const path = join(directory, 'kernels.so');
  if (!isWhole(path))
    compile(
      compiler,
      sources.filter((name) => name.endsWith('.cpp')),
      directory,
      path,
    );
  return { path, compiler };
}

/** What -march=native depends on. */
function cpuIdentity(): string[] {
  const identity: string[] = [process.platform, process.arch, cpus()[0]?.model ?? ''];
  try {
    identity.push(/^(flags|Features)\s*:.*$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[0] ?? '');
  } catch {
    // Not Linux: the model says enough.
  }
  return identity;
}

/** The cache's directory for this hash, or a new temporary one where the cache cannot be written. */
function writableDirectory(hash: string): string {
  const cache =
    process.env.STICKBREAKING_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'stickbreaking');
  const directory = join(cache, hash);
  if (isWhole(join(directory, 'kernels.so'))) return directory;
  try {
    mkdirSync(directory, { recursive: true });
    const probe = join(directory, `probe.${process.pid}`);
    closeSync(openSync(probe, 'w'));
    unlinkSync(probe);
    return directory;
  } catch {
    return mkdtempSync(join(tmpdir(), 'stickbreaking-'));
  }
}

function isWhole(path: string): boolean {
  try {
    return readFileSync(`${path}.sha256`, 'utf8').trim() === sha256(path);
  } catch {
    return false;
  }
}

function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

/** Compiles beside and renames, so that two processes at once end with one whole library. */
function compile(compiler: Compiler, sources: string[], directory: string, path: string): void {
  const beside = `${path}.${process.pid}`;
  const paths = sources.map((name) => join(sourceDirectory, name));
  const result = spawnSync(compiler.command, [...flags, '-o', beside, ...paths], { encoding: 'utf8' });
  if (result.status !== 0) {
    const log = join(directory, 'compile.log');
    writeFileSync(log, `${result.stdout ?? ''}${result.stderr ?? ''}${result.error?.message ?? ''}`);
    throw new Error(`${compiler.command} could not compile the kernels; its message is in ${log}`);
  }
  const file = openSync(beside, 'r+');
  fsyncSync(file);
  closeSync(file);
  writeFileSync(`${beside}.sha256`, sha256(beside));
  renameSync(beside, path);
  renameSync(`${beside}.sha256`, `${path}.sha256`);
}

interface Loaded {
  library: ReturnType<typeof koffi.load>;
  compiler: Compiler;
  /** What multiplies matrices. */
  blas: string;
}

let loaded: Loaded | undefined;

/** Builds where needed and loads; an error's message is the reason in one line. */
export function loadLibrary(): Loaded {
  if (!loaded) {
    const { path, compiler } = buildLibrary();
    const library = koffi.load(path);
    loaded = { library, compiler, blas: chooseBlas(library) };
  }
  return loaded;
}

const functions = new Map<string, ReturnType<ReturnType<typeof koffi.load>['func']>>();

/** A function of the library by its C signature, such as `void sb_set_threads(int32_t threads)`. */
export function nativeFunction(signature: string): ReturnType<ReturnType<typeof koffi.load>['func']> {
  let found = functions.get(signature);
  if (!found) {
    found = loadLibrary().library.func(signature);
    functions.set(signature, found);
  }
  return found;
}
