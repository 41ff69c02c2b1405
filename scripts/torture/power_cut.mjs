// What a disk may hold after a power cut: names that were made or changed may be as they were before the last flush of
// their directory, back to any moment since then, and a file may end anywhere past what was last flushed of it.
import fs from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { seededRandom } from '@stickbreaking/base';

const { existsSync, fstatSync, linkSync, mkdirSync, renameSync, rmSync, statSync, truncateSync } = fs;

export class PowerCut {
  /** Open files' paths, by number. */
  #paths = new Map();
  /** How much of a file is safe, by path. */
  #safe = new Map();
  /** Changes of names that no flush has made safe, in order: `{ directory, undo }`. */
  #names = [];
  #stash;
  #stashed = 0;

  /** @param stash a folder on the same disk, for files that others take the place of */
  constructor(stash) {
    this.#stash = stash;
    mkdirSync(stash, { recursive: true });
  }

  /** Told of a change before it is made. @returns what to call with its result once it is made */
  before(name, args) {
    const path = typeof args[0] === 'string' ? resolve(args[0]) : undefined;
    if (name === 'open' || name === 'writeFile' || name === 'copyFile') {
      const made = name === 'copyFile' ? resolve(args[1]) : path;
      const stats = statSync(made, { throwIfNoEntry: false });
      if (stats?.isDirectory()) return (file) => this.#paths.set(file, made);
      const isNew = stats === undefined;
      const keeps = name === 'open' && (typeof args[1] !== 'string' || /[ra]/.test(args[1]));
      this.#safe.set(made, keeps ? (this.#safe.get(made) ?? stats?.size ?? 0) : 0);
      return (file) => {
        if (typeof file === 'number') this.#paths.set(file, made);
        if (isNew) this.#names.push({ directory: dirname(made), undo: () => rmSync(made, { force: true }) });
      };
    }
    if (name === 'mkdir' && !existsSync(path)) {
      const undo = () => rmSync(path, { recursive: true, force: true });
      return () => this.#names.push({ directory: dirname(path), undo });
    }
    if (name === 'rename') return this.#renaming(path, resolve(args[1]));
    if (name === 'fsync') return () => this.#flushed(args[0]);
    return () => {};
  }

  #renaming(from, to) {
    const old = statSync(to, { throwIfNoEntry: false })?.isFile()
      ? join(this.#stash, `${process.pid}-${this.#stashed++}`)
      : undefined;
    if (old !== undefined) linkSync(to, old);
    return () => {
      for (const [path, size] of [...this.#safe]) {
        if (path !== from && !path.startsWith(`${from}/`)) continue;
        this.#safe.delete(path);
        this.#safe.set(to + path.slice(from.length), size);
      }
      const undo = () => {
        if (existsSync(to) && existsSync(dirname(from))) renameSync(to, from);
        if (old !== undefined) renameSync(old, to);
      };
      this.#names.push({ directory: dirname(to), undo });
    };
  }

  #flushed(file) {
    const path = this.#paths.get(file);
    const stats = fstatSync(file);
    if (stats.isFile() && path !== undefined) this.#safe.set(path, stats.size);
    if (stats.isDirectory()) this.#names = this.#names.filter(({ directory }) => directory !== path);
  }

  /** Leaves what a cut may leave; the process is to be ended then. */
  strike(seed) {
    const random = seededRandom(seed, 'power cut');
    for (const [path, safe] of this.#safe) {
      const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
      if (size > safe) truncateSync(path, safe + random.integer(size - safe + 1));
    }
    const kept = random.integer(this.#names.length + 1);
    for (const { undo } of this.#names.slice(kept).reverse()) undo();
  }
}
