/**
 * Compiles `.cu` files to machine code for the GPU at hand: the run-time compiler (NVRTC) makes a cubin once, which is
 * cached under the hash of sources, flags and compiler version. Our own `#include "…"` lines are expanded here, so that
 * the hash covers them and the compiler needs no include folder.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheDirectory, makeDirectory, replaceFile } from '@stickbreaking/base/node';
import { CudaError } from './errors.js';
import { sizesOf } from './kernel_interface.js';
import { loadLibrary } from './libraries.js';

/** The folder of `.cu` sources: `backends/cuda/kernels/` of the package (or of the bundle) this program came in. */
export function sourceFolder(): string {
  for (let at = dirname(fileURLToPath(import.meta.url)); ; at = dirname(at)) {
    if (existsSync(join(at, 'backends/cuda/kernels', 'common.cuh'))) return join(at, 'backends/cuda/kernels');
    if (at === dirname(at))
      throw new CudaError('the kernels (folder backends/cuda/kernels with common.cuh) are missing beside the program');
  }
}

/** Where compiled kernels are kept. */
export const cacheFolder = () => join(cacheDirectory(), 'cuda');

/** The source with every `#include "file"` replaced, once, by the file's text. */
export function expandIncludes(path: string, seen = new Set<string>()): string {
  if (seen.has(path)) return '';
  seen.add(path);
  const text = readFileSync(path, 'utf8').replace(/^#pragma once$/m, '');
  return text.replace(/^#include "([^"]+)"$/gm, (_, name: string) => expandIncludes(join(dirname(path), name), seen));
}

/** The run-time compiler. */
export interface Nvrtc {
  version: string;
  /** @returns no cubin where the source has errors; `log` has errors and warnings. */
  compile(source: string, name: string, options: string[]): { cubin?: Uint8Array; log: string };
}

let nvrtc: Nvrtc | undefined;
/** @throws CudaError where the library is not found. */
export function openNvrtc(): Nvrtc {
  if (nvrtc) return nvrtc;
  const { handle: library } = loadLibrary('libnvrtc', ['libnvrtc.so.13', 'libnvrtc.so.12']);
  const version = new Int32Array(2);
  const f = {
    version: library.func('nvrtcVersion', 'int', ['void*', 'void*']),
    create: library.func('nvrtcCreateProgram', 'int', ['void*', 'str', 'str', 'int', 'void*', 'void*']),
    compile: library.func('nvrtcCompileProgram', 'int', ['uint64', 'int', 'str*']),
    logSize: library.func('nvrtcGetProgramLogSize', 'int', ['uint64', 'void*']),
    log: library.func('nvrtcGetProgramLog', 'int', ['uint64', 'void*']),
    size: library.func('nvrtcGetCUBINSize', 'int', ['uint64', 'void*']),
    cubin: library.func('nvrtcGetCUBIN', 'int', ['uint64', 'void*']),
    destroy: library.func('nvrtcDestroyProgram', 'int', ['void*']),
  };
  f.version(version.subarray(0, 1), version.subarray(1, 2));
  nvrtc = {
    version: `${version[0]}.${version[1]}`,
    compile(source, name, options) {
      const program = new BigUint64Array(1);
      f.create(program, source, name, 0, null, null);
      const status = f.compile(program[0], options.length, options) as number;
      const size = new BigUint64Array(1);
      f.logSize(program[0], size);
      const log = Buffer.alloc(Number(size[0]) + 1);
      f.log(program[0], log);
      const text = log.toString('utf8').replace(/\0.*$/s, '');
      if (status !== 0) return { log: text || `NVRTC status ${status}` };
      f.size(program[0], size);
      const cubin = new Uint8Array(Number(size[0]));
      f.cubin(program[0], cubin);
      f.destroy(program);
      return { cubin, log: text };
    },
  };
  return nvrtc;
}

/** `sm_90a` opens Hopper's own instructions; other GPUs get their plain architecture. */
export function architecture(computeCapability: number, hopper: boolean): string {
  return hopper ? 'sm_90a' : `sm_${computeCapability}`;
}

/** What the compiler is told, with the sizes that host and kernels share. */
export function optionsFor(file: string, target: string, defines: readonly string[]): string[] {
  const macros = [...sizesOf(file), ...defines].map((define) => `-D${define}`);
  return [`--gpu-architecture=${target}`, '--std=c++17', ...macros];
}

/**
 * The cubin of one source file for a GPU, from the cache or compiled now.
 * @param file path under the folder of kernels, e.g. `norm.cu`
 * @throws CudaError naming the file that keeps the compiler's log.
 */
export function compileKernels(file: string, target: string, defines: readonly string[] = []): Uint8Array {
  const source = expandIncludes(join(sourceFolder(), file));
  const options = optionsFor(file, target, defines);
  const folder = cacheFolder();
  const compiler = openNvrtc();
  const hash = createHash('sha256')
    .update(JSON.stringify([compiler.version, options, source]))
    .digest('hex');
  const stem = join(folder, `${file.replace(/\W+/g, '-')}-${hash.slice(0, 24)}`);
  const cached = readCached(`${stem}.cubin`);
  if (cached) return cached;
  const { cubin, log } = compiler.compile(source, file, options);
  if (!cubin) {
    const first = log.split('\n').find((line) => line.includes('error')) ?? log.split('\n')[0];
    const kept = keep(`${stem}.log`, log) ? `; the whole log is in ${stem}.log` : '';
    throw new CudaError(`CUDA kernel ${file} does not compile for ${options[0]}: ${first}${kept}`);
  }
  keep(`${stem}.cubin`, cubin);
  return cubin;
}

/** Undefined where there is none, or none that can be read. */
function readCached(path: string): Uint8Array | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

/** Keeps a file in the cache, where that is possible: without it, the next process only compiles again. */
export function keep(path: string, content: string | Uint8Array): boolean {
  try {
    makeDirectory(dirname(path));
    replaceFile(path, content);
    return true;
  } catch {
    return false; // read-only, full, or a file is in the way
  }
}

/** Stands for all sources of kernels together. */
export function sourcesHash(): string {
  const hash = createHash('sha256');
  for (const name of readdirSync(sourceFolder()).sort()) {
    hash.update(`\0${name}\0`).update(readFileSync(join(sourceFolder(), name)));
  }
  return hash.digest('hex').slice(0, 24);
}

/** Version of the run-time compiler found. */
export function compilerVersion(): string {
  return openNvrtc().version;
}
