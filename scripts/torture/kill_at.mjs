// Loaded before a command (--import): counts its changes to the file system, by whichever function of node:fs it makes
// them, and ends the process by SIGKILL at one of them: before it, after it, with half of it done, or with what a power
// cut after it may leave. STICKBREAKING_TORTURE holds, as JSON, `{ at?, how?, stash?, trace?, within?, noLocks?, count? }`.
import fs from 'node:fs';
import Module, { syncBuiltinESMExports } from 'node:module';
import { join, resolve, sep } from 'node:path';
import { isMainThread } from 'node:worker_threads';

const { at, how, stash, trace, within, noLocks, count } = JSON.parse(process.env.STICKBREAKING_TORTURE ?? '{}');

/** Each with its forms for callbacks, promises and the present. */
const CHANGES = [
  ...['open', 'write', 'writev', 'writeFile', 'appendFile', 'rename', 'fsync', 'fdatasync', 'ftruncate', 'truncate'],
  ...['unlink', 'rm', 'rmdir', 'mkdir', 'mkdtemp', 'copyFile', 'cp', 'link', 'symlink'],
  ...['utimes', 'futimes', 'lutimes', 'chmod', 'fchmod'],
];
const OF_HANDLES = ['write', 'writev', 'writeFile', 'appendFile', 'sync', 'datasync', 'truncate'];

const { appendFileSync, lstatSync, readFileSync, readdirSync, rmSync, writeFileSync, writeSync } = fs;
let changes = 0;
/** How many calls deep: a function of node:fs may use others. */
let inside = 0;

const die = () => process.kill(process.pid, 'SIGKILL');

/** Opening changes something where it may make a file or empty it. */
const isChange = (name, [, flags]) =>
  name !== 'open' || (typeof flags === 'number' ? (flags & fs.constants.O_CREAT) > 0 : /[wa]/.test(flags ?? 'r'));

const bytesOf = (data) =>
  typeof data === 'string' ? Buffer.from(data) : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
const halfOf = (bytes) => bytes.subarray(0, bytes.length >> 1);

/** What the disk has when a machine is ended in the middle of a change that is not made at once. */
const halfway = {
  write(file, data, start = 0, length = undefined, position = undefined) {
    const from = typeof start === 'number' && typeof data !== 'string' ? start : 0;
    const bytes = bytesOf(data).subarray(from);
    writeSync(file, halfOf(bytes.subarray(0, length ?? bytes.length)), 0, undefined, position);
  },
  writeFile: (path, data) => writeFileSync(path, halfOf(bytesOf(data))),
  appendFile: (path, data) => appendFileSync(path, halfOf(bytesOf(data))),
  copyFile: (from, to) => writeFileSync(to, halfOf(readFileSync(from))),
  rm(path) {
    if (!lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
    const names = readdirSync(path);
    for (const name of names.slice(0, Math.ceil(names.length / 2))) rmSync(join(path, name), { recursive: true });
  },
};

/** Who changes the folder, in the order of the changes: one that holds its lock. */
function note(name, args) {
  if (trace === undefined || (name !== 'rename' && name !== 'open')) return;
  const path = resolve(String(args[name === 'rename' ? 1 : 0]));
  if (path.startsWith(`${within}${sep}`) && !path.startsWith(join(within, '.lock')))
    appendFileSync(trace, `${process.pid}\n`);
}

const power = how === 'cut' ? new (await import('./power_cut.mjs')).PowerCut(stash) : undefined;

function wrap(holder, key, name, form) {
  const real = holder[key];
  if (typeof real !== 'function') return;
  const counted = function (...args) {
    if (inside > 0) return real.apply(this, args);
    const call = () => (power ? watched(this, real, name, form, args) : real.apply(this, args));
    if (!isChange(name, args)) return name === 'open' ? call() : real.apply(this, args);
    const isNow = ++changes === at;
    inside++;
    try {
      note(name, args);
      if (isNow && how === 'half') halfway[name]?.(...(form === 'handle' ? [this.fd, ...args] : args));
      if (isNow && (how === 'before' || how === 'half')) die();
      const end = () => {
        power?.strike(at);
        die();
      };
      if (isNow && form === 'callback') args[args.length - 1] = end;
      const result = call();
      if (isNow && (form === 'promise' || form === 'handle')) return result.then(end);
      if (isNow && form === 'sync') end();
      return result;
    } finally {
      inside--;
    }
  };
  holder[key] = counted;
}

/** The call, of which the power cut is told; not those with callbacks, with which nothing here makes files or flushes them. */
function watched(self, real, name, form, args) {
  inside++;
  try {
    if (form === 'callback') return real.apply(self, args);
    const made = power.before(name === 'sync' ? 'fsync' : name, form === 'handle' ? [self.fd, ...args] : args);
    const result = real.apply(self, args);
    if (form === 'sync') made(result);
    else result.then((given) => made(given?.fd ?? given)).catch(() => {});
    return result;
  } finally {
    inside--;
  }
}

if (isMainThread) {
  const handle = await fs.promises.open(new URL(import.meta.url));
  const prototype = Object.getPrototypeOf(handle);
  await handle.close();
  for (const name of CHANGES) {
    wrap(fs, `${name}Sync`, name, 'sync');
    wrap(fs, name, name, 'callback');
    wrap(fs.promises, name, name, 'promise');
  }
  for (const name of OF_HANDLES) wrap(prototype, name, name, 'handle');
  syncBuiltinESMExports();
  changes = 0;
}

// Without the system's locks, as on some network file systems.
if (noLocks) {
  const load = Module._load;
  const withoutFlock = (library) => ({
    func(signature) {
      if (signature.includes('flock')) throw new Error('not here');
      return library.func(signature);
    },
  });
  Module._load = (request, ...rest) => {
    const loaded = load(request, ...rest);
    if (request !== 'koffi') return loaded;
    return {
      ...loaded,
      load: (path) => (/libc|libSystem/.test(path) ? withoutFlock(loaded.load(path)) : loaded.load(path)),
    };
  };
}

if (count !== undefined) process.on('exit', () => writeFileSync(count, String(changes)));
