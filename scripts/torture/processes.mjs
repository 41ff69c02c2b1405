// The commands in processes of their own that may be killed. They are bundled first and loaded from V8's cache of compiled
// code, which lets them start in a fraction of the time.
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const file = (path) => fileURLToPath(new URL(path, import.meta.url));
const preload = new URL('kill_at.mjs', import.meta.url).href;
const loader = file('load.cjs');
const commands = {
  'sb-train': '../../packages/train/dist/cli.js',
  'sb-tokenizer': '../../packages/data/dist/cli.js',
  'sb-study': '../../packages/study/dist/cli.js',
};
/** Packages with a native part, and where they are found. */
const native = ['koffi', 'tokenizers'];
const NODE_PATH = ['../../packages/base/node_modules', '../../packages/data/node_modules'].map(file).join(delimiter);
const environment = { ...process.env, NODE_PATH, STICKBREAKING_THREADS: '1' };

/** Longer than any of them takes on a busy machine. */
const MOST_MS = 120_000;

let programs;

/** Bundles the commands into a folder, each as its bin file has it. */
export async function bundleCommands(folder) {
  programs = join(folder, 'programs');
  mkdirSync(join(folder, 'backends/native'), { recursive: true });
  cpSync(file('../../packages/core/backends/native/kernels'), join(folder, 'backends/native/kernels'), {
    recursive: true,
  });
  cpSync(file('../../packages/model/python'), join(folder, 'python'), { recursive: true });
  for (const [name, path] of Object.entries(commands)) {
    const contents = `import { main } from ${JSON.stringify(file(path))};
      main(process.argv.slice(2)).then((code) => { process.exitCode = code; });`;
    await build({
      stdin: { contents, resolveDir: file('.') },
      outfile: join(programs, `${name}.cjs`),
      bundle: true,
      minifyWhitespace: true,
      ignoreAnnotations: true,
      format: 'cjs',
      platform: 'node',
      target: 'node20',
      external: [...native, '@tensorflow/tfjs-node', '@tensorflow/tfjs-node-gpu'],
      define: { 'import.meta.url': '__url' },
      banner: { js: "const __url = require('node:url').pathToFileURL(__filename).href;" },
      logLevel: 'warning',
    });
  }
}

/** Keeps what V8 has compiled in a run of the command. */
export function warm(command, args) {
  const env = { ...environment, STICKBREAKING_KEEP_CODE: '1' };
  const { status, stderr } = spawnSync(process.execPath, [loader, join(programs, `${command}.cjs`), ...args], { env });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
}

/**
 * A kill as it is written on a command line: `12b`efore, `12h`alf done or `12a`fter the 12th change, a power `12c`ut after
 * it, or after `350ms`.
 */
export function parseKill(text) {
  const [, number, unit] = /^(\d+)(b|h|a|c|ms)$/.exec(text) ?? [];
  if (unit === undefined) throw new Error(`'${text}' is no kill; expected 12b, 12h, 12a, 12c or 350ms`);
  if (unit === 'ms') return { after: Number(number) };
  return { at: Number(number), how: { b: 'before', h: 'half', a: 'after', c: 'cut' }[unit] };
}

/**
 * @param kill as text, or undefined
 * @param options what the preload does besides: `trace` and `within`, `noLocks`, `count`
 * @returns `{ code, signal, stderr, pid }`; a process that does not end has the signal `SIGABRT`
 */
export function start(command, args, kill, options = {}) {
  const { after, ...at } = kill === undefined ? {} : parseKill(kill);
  const child = spawn(process.execPath, ['--import', preload, loader, join(programs, `${command}.cjs`), ...args], {
    env: { ...environment, STICKBREAKING_TORTURE: JSON.stringify({ ...at, ...options }) },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const timers = [setTimeout(() => child.kill('SIGABRT'), MOST_MS)];
  if (after !== undefined) timers.push(setTimeout(() => child.kill('SIGKILL'), after));
  return new Promise((settle, fail) => {
    let stderr = '';
    child.stderr.on('data', (data) => {
      stderr += data;
    });
    child.on('error', fail);
    child.on('close', (code, signal) => {
      timers.forEach(clearTimeout);
      settle({ code, signal, stderr, pid: child.pid });
    });
  });
}
