/**
 * The library of C++ kernels: compiled once for this machine and kept in a cache. The name of a cached library ends
 * with its checksum, so that a half-written or damaged one is never loaded, and writers need no lock.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { explainSystemError } from '@stickbreaking/base';
import { cacheDirectory, makeDirectory, replaceFile } from '@stickbreaking/base/node';
import koffi from 'koffi';
import { chooseBlas } from './blas.js';
import { checked } from './checked.js';
import { type Compiler, compile, findCompiler, flags, readSources } from './compiler.js';
import { SettingError } from './setting_error.js';

export interface BuiltLibrary {
  path: string;
  compiler: Compiler;
  /** Stands for what it was compiled from: sources, flags, compiler and the processor's features. */
  build: string;
  /** Why it is not in the cache, and is used by this process only. */
  notCached?: string;
}

/** Stands for a library of these sources by this compiler for this CPU. */
function buildOf(compiler: Compiler, cpu: readonly string[]): string {
  const hash = createHash('sha256').update(JSON.stringify([compiler, flags, cpu]));
  for (const [name, content] of readSources()) hash.update(`\0${name}\0`).update(content);
  return hash.digest('hex').slice(0, 24);
}

/**
 * An intact library for this machine, compiled now if the cache has none.
 *
 * @param anew compile even if the cache has one
 */
export async function buildLibrary({ cpu = cpuIdentity(), anew = false } = {}): Promise<BuiltLibrary> {
  const compiler = findCompiler();
  const build = buildOf(compiler, cpu);
  const directory = join(cacheDirectory(), build);
  const cached = anew ? undefined : wholeLibrary(directory);
  if (cached) return { path: cached, compiler, build };
  const workshop = makeWorkshop(directory);
  let keepWorkshop = false;
  try {
    const fresh = await compile(compiler, workshop, [directory, tmpdir()]);
    try {
      return { path: install(readFileSync(fresh), directory), compiler, build };
    } catch (error) {
      keepWorkshop = true;
      return { path: fresh, compiler, build, notCached: (error as Error).message.split('\n')[0]!.replace(/\.$/, '') };
    }
  } finally {
    if (!keepWorkshop) rmSync(workshop, { recursive: true, force: true });
    else process.once('exit', () => rmSync(workshop, { recursive: true, force: true }));
  }
}

/** A directory to compile in: among temporary files or, where there is no place for those, beside what is kept. */
function makeWorkshop(directory: string): string {
  try {
    return mkdtempSync(join(tmpdir(), 'stickbreaking-'));
  } catch (error) {
    try {
      makeDirectory(directory);
      return mkdtempSync(join(directory, 'compiling-'));
    } catch {
      const action = `cannot make a directory in ${tmpdir()}, where temporary files go (see TMPDIR)`;
      throw explainSystemError(error, action);
    }
  }
}

/** The processor's name, for the user. */
export const cpuName = () => cpus()[0]?.model.trim() || process.arch;

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

const libraryName = /^kernels-([0-9a-f]{16})\.so$/;

/** A library in the directory whose checksum matches its name; damaged ones are left to be overwritten. */
function wholeLibrary(directory: string): string | undefined {
  try {
    const name = readdirSync(directory).find((one) => {
      const checksum = libraryName.exec(one)?.[1];
      return checksum !== undefined && checksumOf(readFileSync(join(directory, one))) === checksum;
    });
    return name && join(directory, name);
  } catch {
    return undefined;
  }
}

function checksumOf(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex').slice(0, 16);
}

function install(content: Buffer, directory: string): string {
  const path = join(directory, `kernels-${checksumOf(content)}.so`);
  makeDirectory(directory);
  replaceFile(path, content, { mode: 0o777 });
  return path;
}

interface Loaded extends BuiltLibrary {
  library: ReturnType<typeof koffi.load>;
  /** What is used for matmul, as it describes itself. */
  blas: string;
}

let loaded: Promise<Loaded> | undefined;
let functionsOf: Loaded['library'] | undefined;

/** Builds the library if necessary and loads it, once; the message of an error is one line with the reason. */
export function loadLibrary(): Promise<Loaded> {
  loaded ??= load().catch((error) => {
    loaded = undefined;
    throw error;
  });
  return loaded;
}

async function load(): Promise<Loaded> {
  let built = await buildLibrary();
  let library: Loaded['library'];
  try {
    library = koffi.load(built.path);
  } catch {
    // Whole, but made where other system libraries are: a home directory that machines share.
    built = await buildLibrary({ anew: true });
    library = koffi.load(built.path);
  }
  const blas = chooseBlas(library);
  const threads = threadsAsked();
  if (threads !== undefined) library.func('void sb_set_threads(int32_t threads)')(threads);
  functionsOf = library;
  return { ...built, library, blas };
}

/** The number of threads from the environment; without it, the library uses one for each core. */
function threadsAsked(): number | undefined {
  const text = process.env.STICKBREAKING_THREADS?.trim();
  if (!text) return undefined;
  const threads = Number(text);
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
    throw new SettingError(`STICKBREAKING_THREADS is '${text}'; expected a whole number from 1 to 1024.`);
  }
  return threads;
}

const functions = new Map<string, ReturnType<Loaded['library']['func']>>();

/** A function of the library, without a check of its arguments. */
export type LibraryCall = (...args: unknown[]) => unknown;
/** Told of every call of the library, where somebody listens. */
export const listening: { note?: ((call: LibraryCall, args: unknown[]) => void) | undefined } = {};

/** Calls the library for what stays, of which nobody is told. */
export function unheard<T>(call: () => T): T {
  const { note } = listening;
  listening.note = undefined;
  try {
    return call();
  } finally {
    listening.note = note;
  }
}

/** A function of the loaded library by its C signature, such as `void sb_set_threads(int32_t threads)`. */
export function nativeFunction(signature: string): ReturnType<Loaded['library']['func']> {
  let found = functions.get(signature);
  if (!found) {
    if (!functionsOf) throw new Error("The backend 'native' was not selected.");
    const call = functionsOf.func(signature);
    const guarded = checked(signature, call);
    const noted = (...args: unknown[]) => {
      listening.note?.(call, args);
      return guarded(...args);
    };
    found = noted as typeof call;
    functions.set(signature, found);
  }
  return found;
}
