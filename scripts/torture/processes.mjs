// Commands in processes of their own that may be killed.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const preload = new URL('kill_at.mjs', import.meta.url).href;
const bins = {
  'sb-train': new URL('../../packages/train/bin/sb-train.js', import.meta.url),
  'sb-tokenizer': new URL('../../packages/data/bin/sb-tokenizer.js', import.meta.url),
};

/** Longer than any of them takes on a busy machine. */
const MOST_MS = 120_000;

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
  const child = spawn(process.execPath, ['--import', preload, fileURLToPath(bins[command]), ...args], {
    env: { ...process.env, STICKBREAKING_TORTURE: JSON.stringify({ ...at, ...options }) },
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
