/**
 * The library of kernels when something is wrong: compiler, cache, damaged or foreign libraries, two processes at once.
 */
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { native } from './index.js';
import { buildLibrary } from './library.js';

const here = await native.probe();
/** The compiled package, which another process can run. */
const distribution = new URL('../../../dist/native', import.meta.url).href;
const variables = [
  'CXX',
  'PATH',
  'STICKBREAKING_CACHE',
  'STICKBREAKING_BLAS',
  'STICKBREAKING_THREADS',
  'TMPDIR',
] as const;
const saved = Object.fromEntries(variables.map((name) => [name, process.env[name]]));
let directory: string;
let cache: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'stickbreaking-test-'));
  cache = join(directory, 'cache');
  process.env.STICKBREAKING_CACHE = cache;
});
afterEach(() => {
  for (const name of variables) {
    if (saved[name] === undefined) delete process.env[name];
    else process.env[name] = saved[name];
  }
  rmSync(directory, { recursive: true, force: true });
});

/**
 * A compiler that notes each call in a file and makes of every source, and of all objects, what `make` writes to $out.
 */
function useCompiler(make: string): { calls(): number } {
  const script = join(directory, 'c++');
  const log = join(directory, 'calls');
  writeFileSync(
    script,
    `#!/bin/sh
[ "$1" = --version ] && echo fake 1.0 && exit 0
while [ $# -gt 0 ]; do [ "$1" = -o ] && out="$2"; shift; done
case "$out" in *kernels.so) echo call >> ${log} ;; esac
${make}
`,
  );
  chmodSync(script, 0o755);
  process.env.CXX = script;
  return { calls: () => (existsSync(log) ? readFileSync(log, 'utf8').split('\n').length - 1 : 0) };
}

async function messageOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => '',
    (error: Error) => error.message,
  );
}

/** What a process of its own finds. */
function probeInProcess(): Awaited<ReturnType<typeof native.probe>> | { refused: string } {
  const program = `const { native } = await import('${distribution}/index.js');
    console.log(JSON.stringify(await native.probe().catch(({ message }) => ({ refused: message }))));`;
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    env: process.env,
    encoding: 'utf8',
  });
  expect(child.stderr).toBe('');
  return JSON.parse(child.stdout);
}

describe('the library of native kernels', () => {
  it('says that no compiler was found', async () => {
    delete process.env.CXX;
    process.env.PATH = directory;
    expect(await messageOf(buildLibrary())).toBe(
      'no C++ compiler was found (c++, g++, clang++); install one, or name one in CXX',
    );
  });

  it('names a compiler that does not run', async () => {
    process.env.CXX = '/nowhere/c++';
    expect(await messageOf(buildLibrary())).toBe("the C++ compiler '/nowhere/c++' that CXX names does not run");
  });

  it('keeps the message of a compiler that fails in the file that it names, and nothing else', async () => {
    useCompiler('echo broken header >&2; exit 1');
    const message = await messageOf(buildLibrary());
    expect(message.split('\n')).toHaveLength(1);
    const log = /could not compile the kernels; its message is in (.*)$/.exec(message)![1]!;
    expect(log.startsWith(cache)).toBe(true);
    expect(readFileSync(log, 'utf8')).toContain('broken header');
    expect(readdirSync(dirname(log))).toEqual(['compile.log']);
  });

  it('says so where the compiler ends well but leaves no library', async () => {
    useCompiler('exit 0');
    expect(await messageOf(buildLibrary())).toMatch(/could not compile the kernels; its message is in /);
  });

  it('compiles once, then takes what the cache has', async () => {
    const compiler = useCompiler('echo library > "$out"');
    const { path } = await buildLibrary();
    expect(readFileSync(path, 'utf8')).toBe('library\n');
    expect(readdirSync(dirname(path))).toEqual([basename(path)]);
    expect((await buildLibrary()).path).toBe(path);
    expect(compiler.calls()).toBe(1);
  });

  it.skipIf(process.platform === 'win32')(
    'needs no place for temporary files, and says what is wrong without any',
    async () => {
      useCompiler('echo library > "$out"');
      process.env.TMPDIR = join(directory, 'nowhere');
      const { path } = await buildLibrary();
      expect(readdirSync(dirname(path))).toEqual([basename(path)]);
      process.env.STICKBREAKING_CACHE = process.env.CXX; // a file
      expect(await messageOf(buildLibrary())).toBe(
        `cannot make a directory in ${directory}/nowhere, where temporary files go (see TMPDIR): ` +
          'there is no such file or directory (ENOENT).',
      );
    },
  );

  it('compiles a truncated or changed library anew', async () => {
    const compiler = useCompiler('echo library > "$out"');
    const { path } = await buildLibrary();
    truncateSync(path, 3);
    expect((await buildLibrary()).path).toBe(path);
    expect(readFileSync(path, 'utf8')).toBe('library\n');
    writeFileSync(path, 'liberty\n');
    await buildLibrary();
    expect(readFileSync(path, 'utf8')).toBe('library\n');
    expect(compiler.calls()).toBe(3);
  });

  it("leaves another CPU's library in the same cache alone", async () => {
    const compiler = useCompiler('echo library > "$out"');
    const other = await buildLibrary({ cpu: ['linux', 'x64', 'another CPU'] });
    const own = await buildLibrary();
    expect(dirname(own.path)).not.toBe(dirname(other.path));
    expect(dirname(dirname(own.path))).toBe(dirname(dirname(other.path)));
    expect(compiler.calls()).toBe(2);
  });

  it('serves this process alone where the cache is no directory', async () => {
    useCompiler('echo library > "$out"');
    writeFileSync(cache, '');
    const { path, notCached } = await buildLibrary();
    expect(readFileSync(path, 'utf8')).toBe('library\n');
    expect(notCached).toMatch(/^cannot make the directory .* \(ENOTDIR\)$/);
    rmSync(dirname(path), { recursive: true });
  });

  it.each([
    {
      name: 'is read-only',
      options: 'ro',
      make: 'echo library > "$out"',
      reason: /^cannot make the directory .* read-only \(EROFS\)$/,
    },
    {
      name: 'is full',
      options: 'size=16k',
      make: 'head -c 100000 /dev/zero > "$out"',
      reason: /^cannot write .*: the disk is full; .* \(ENOSPC\)$/,
    },
  ])('serves this process alone where the cache $name', async ({ options, make, reason }) => {
    mkdirSync(cache);
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', cache]).status !== 0) {
      console.info('not tested: a small file system cannot be mounted here');
      return;
    }
    try {
      useCompiler(make);
      const { path, notCached } = await buildLibrary();
      expect(notCached).toMatch(reason);
      expect(statSync(path).size).toBeGreaterThan(0);
      for (const entry of readdirSync(cache)) expect(readdirSync(join(cache, entry))).toEqual([]);
      rmSync(dirname(path), { recursive: true });
    } finally {
      spawnSync('umount', [cache]);
    }
  });

  it('lets two processes compile at once, each ending with a whole library', { timeout: 60_000 }, async () => {
    useCompiler('sleep 0.1; echo "library of $PPID" > "$out"');
    const program = `const { buildLibrary } = await import('${distribution}/library.js'); console.log((await buildLibrary()).path);`;
    const start = () =>
      new Promise<string>((resolve, reject) => {
        const child = spawn(process.execPath, ['--input-type=module', '-e', program], { env: process.env });
        let said = '';
        child.stdout.on('data', (part) => {
          said += part;
        });
        child.stderr.on('data', (part) => {
          said += part;
        });
        child.on('exit', (code) => (code === 0 ? resolve(said.trim()) : reject(new Error(said))));
      });
    const paths = await Promise.all([start(), start()]);
    for (const path of paths) expect(readFileSync(path, 'utf8')).toMatch(/^library of \d+\n$/);
    expect(paths).toContain((await buildLibrary()).path);
    expect(readdirSync(dirname(paths[0]!)).sort()).toEqual([...new Set(paths.map((path) => basename(path)))].sort());
  });

  it('ends in a line, not a crash, where the library does not load', { timeout: 30_000 }, () => {
    useCompiler('echo library > "$out"');
    const why = probeInProcess();
    expect(why).toMatchObject({ available: false });
    expect((why as { why: string }).why.split('\n')).toHaveLength(1);
  });

  it.skipIf(!here.available)(
    'loads the BLAS that is asked for, or ends in a line that names it',
    { timeout: 60_000 },
    () => {
      delete process.env.STICKBREAKING_CACHE; // the library that is there already
      process.env.STICKBREAKING_BLAS = 'own';
      expect(probeInProcess()).toMatchObject({
        description: expect.stringContaining('matmul by our own kernel'),
        arithmetic: expect.stringMatching(/^native: kernels [0-9a-f]{24} by .+, for .+; matmul by our own kernel$/),
      });
      process.env.STICKBREAKING_BLAS = '/nowhere/libblas.so';
      expect(probeInProcess()).toEqual({
        refused: "STICKBREAKING_BLAS names '/nowhere/libblas.so', which does not load or has no cblas_sgemm.",
      });
    },
  );

  it.skipIf(!here.available)('takes the number of threads from the environment', { timeout: 60_000 }, () => {
    delete process.env.STICKBREAKING_CACHE;
    process.env.STICKBREAKING_THREADS = '3';
    expect(probeInProcess()).toMatchObject({ description: expect.stringContaining('3 threads') });
    process.env.STICKBREAKING_THREADS = 'many';
    expect(probeInProcess()).toEqual({
      refused: "STICKBREAKING_THREADS is 'many'; expected a whole number from 1 to 1024.",
    });
  });

  it.skipIf(!here.available)('lets a process end while its threads wait', { timeout: 60_000 }, async () => {
    delete process.env.STICKBREAKING_CACHE;
    const program = `const { native } = await import('${distribution}/index.js'); await native.probe(); await native.activate();
      const { matMul, ones } = await import('@tensorflow/tfjs-core'); for (let i = 0; i < 9; i++) matMul(ones([300, 300]), ones([300, 300]));`;
    const codes = Array.from({ length: 6 }, () => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', program], { cwd: import.meta.dirname });
      return new Promise((resolve) => child.on('exit', (code, signal) => resolve(code ?? signal)));
    });
    expect(await Promise.all(codes)).toEqual([0, 0, 0, 0, 0, 0]);
  });
});
