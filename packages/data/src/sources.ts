// A source says where text comes from: files, globs or directories, and which field of a record holds the text.
import fs, { readdirSync, realpathSync, type Stats, statSync } from 'node:fs';
import { relative, resolve, sep } from 'node:path';
import { explainSystemError, shown, UserError } from '@stickbreaking/base';
import { isHubAddress } from '@stickbreaking/base/node';
import { type FileSystemAdapter, globSync, isDynamicPattern } from 'tinyglobby';
import { z } from 'zod';
import { fetchHubFiles, listHubFiles } from './hub_files.js';
import { formatOf, formats, knownEndings, namedFormat, type SourceFormat } from './kinds.js';
import { type OnNotice, tellOnce } from './notices.js';

/** The schema of a source of text. */
export const SourceConfigSchema = z.strictObject({
  /**
   * A file, a directory (searched to any depth for the known endings), a glob, or one of these on the Hugging Face Hub
   * (`hf://datasets/org/name[@revision][/path]`); or a list of them.
   */
  path: z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]),
  /** The field (JSON) or column (Parquet) that holds the text; `row.text` is the field `text` inside `row`. */
  field: z.string().min(1).default('text'),
  /** Share of the mixture's tokens, relative to the other sources' weights. */
  weight: z.number().positive().default(1),
  /** A name for logs and for the directory of the shards. */
  name: z.string().min(1).optional(),
  /** How to read the files; by default the file name's ending says it. */
  format: z.enum(formats).optional(),
  /** What a document is in a .txt file: the whole file, a line, or a run of lines between blank lines. */
  split: z.enum(['file', 'line', 'blank-line']).default('file'),
  /**
   * Bytes that are no UTF-8 and halves of surrogate pairs in JSON: `refuse` stops with their file and place; `replace`
   * puts U+FFFD in their place and tells how many documents that were.
   */
  invalidText: z.enum(['refuse', 'replace']).default('refuse'),
});

/** A source, its defaults filled in. */
export type SourceConfig = z.output<typeof SourceConfigSchema>;
/** A source as a user writes it: only `path` is required. */
export type SourceInput = z.input<typeof SourceConfigSchema>;

/** One file of a source and how to read it. */
export interface SourceFile {
  /** absolute path */
  path: string;
  format: SourceFormat;
  field: string;
  split: SourceConfig['split'];
  invalidText: SourceConfig['invalidText'];
  /** bytes */
  size: number;
  /** time of the last change, in milliseconds since 1970 */
  mtimeMs: number;
  /** Told of its bytes as they are read. */
  onRead?: (bytes: number) => void;
}

/** Checks a source and fills its defaults in; the error is one line that names the key. */
export function parseSource(source: SourceInput): SourceConfig {
  const result = SourceConfigSchema.safeParse(source);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const key = issue.path.join('.');
  throw new UserError(`data source${key && `, key '${shown(key)}'`}: ${shown(issue.message)}.`);
}

/**
 * As `listFiles`, with what is on the Hugging Face Hub downloaded before.
 *
 * @throws UserError as `listFiles` does, and where a file cannot be fetched
 */
export async function findFiles(source: SourceInput, onNotice: OnNotice = tellOnce): Promise<SourceFile[]> {
  const { path, format } = parseSource(source);
  for (const one of [path].flat()) if (isHubAddress(one)) await fetchHubFiles(one, format);
  return listFiles(source, onNotice);
}

/** A path that a directory or glob gave may be an empty part; one that was named may not. */
interface Found {
  path: string;
  named: boolean;
}

/**
 * The files of a source: paths in the order given, those of a glob or directory sorted by name. Hidden files and empty
 * ones among others are left out, with a notice. Of an address on the Hugging Face Hub, what `findFiles` has downloaded.
 * Throws a UserError when a path matches nothing, or a file is empty, unreadable or of no known kind.
 */
export function listFiles(input: SourceInput, onNotice: OnNotice = tellOnce): SourceFile[] {
  const source = parseSource(input);
  const found = [source.path].flat().flatMap((path) => expand(path, source.format, onNotice));
  const files = eachOnce(
    found.map((one) => ({ ...one, stats: regularFile(one.path) })),
    onNotice,
  );
  const empty = files.filter(({ stats }) => stats.size === 0);
  const refused = empty.find(({ named }) => named) ?? (empty.length === files.length ? empty[0] : undefined);
  if (refused) throw new UserError(`${shown(refused.path)} is empty; give a file with text in it.`);
  for (const { path } of empty) onNotice(`${shown(path)} is empty and left out.`);
  return files
    .filter(({ stats }) => stats.size > 0)
    .map(({ path, stats: { size, mtimeMs } }) => {
      const format = source.format ? namedFormat(source.format, path) : formatOf(path);
      if (!format) {
        throw new UserError(
          `${shown(path)}: unknown kind of file; expected ${knownEndings} (or name its format: ${formats.join(', ')}).`,
        );
      }
      const { field, split, invalidText } = source;
      return { path, format, field, split, invalidText, size, mtimeMs };
    });
}

/** A file that several paths lead to, through links, is read once. */
function eachOnce<File extends { path: string }>(files: readonly File[], onNotice: OnNotice): File[] {
  const first = new Map<string, string>();
  return files.filter(({ path }) => {
    const real = realpathSync(path);
    const before = first.get(real);
    if (before === undefined) first.set(real, path);
    else if (before !== path) onNotice(`${shown(path)} is the same file as ${shown(before)}, and read once.`);
    return before === undefined;
  });
}

function regularFile(path: string): Stats {
  const stats = stat(path);
  if (!stats) throw new UserError(`cannot read ${shown(path)}: there is no such file.`, { missing: true });
  if (!stats.isFile()) throw new UserError(`cannot read ${shown(path)}: it is not a regular file.`);
  return stats;
}

/** A path as it stands wins over reading it as a glob, so that a file may be called `[1].txt`. */
function expand(path: string, format: SourceFormat | undefined, onNotice: OnNotice): Found[] {
  if (isHubAddress(path)) return listHubFiles(path, format).map((file) => ({ path: file, named: false }));
  const stats = stat(path);
  if (stats?.isDirectory()) return listDirectory(path, format, onNotice);
  if (stats || !isDynamicPattern(path)) return [{ path: resolve(path), named: true }];
  const files = glob(path, false);
  // What begins with a dot no pattern without one means: copies that editors and systems make, such as ._a.jsonl.
  const meant = new Set(files);
  tellLeftOut(
    path,
    'hidden file',
    glob(path, true).filter((file) => !meant.has(file)),
    onNotice,
  );
  if (files.length === 0) throw new UserError(`no file matches ${shown(path)}.`, { missing: true });
  return files.map((file) => ({ path: file, named: false }));
}

/** A link to nothing is found like a file, so that it is missed where it is read, and not left out without a word. */
const keepingDanglingLinks = {
  ...fs,
  realpathSync: (path: string) => (fs.existsSync(path) ? fs.realpathSync(path) : path),
  statSync: (path: string) => (fs.existsSync(path) ? fs.statSync(path) : fs.lstatSync(path)),
} as unknown as FileSystemAdapter;

function glob(pattern: string, dot: boolean): string[] {
  const options = { absolute: true, onlyFiles: true, expandDirectories: false, dot, fs: keepingDanglingLinks };
  return globSync(pattern.replaceAll('\\', '/'), options)
    .map((file) => resolve(file))
    .sort();
}

function listDirectory(path: string, format: SourceFormat | undefined, onNotice: OnNotice): Found[] {
  const all = readDirectory(path);
  const isKnown = (file: string) => format !== undefined || formatOf(file) !== undefined;
  const files = all.filter((file) => isKnown(file) && !isHidden(path, file));
  tellLeftOut(
    path,
    'hidden file',
    all.filter((file) => isKnown(file) && isHidden(path, file)),
    onNotice,
  );
  if (files.length === 0) throw new UserError(`the directory ${shown(path)} holds no file ending in ${knownEndings}.`);
  tellLeftOut(
    path,
    'file of another kind',
    all.filter((file) => !isKnown(file) && !isHidden(path, file)),
    onNotice,
  );
  return files.map((file) => ({ path: file, named: false }));
}

function isHidden(directory: string, file: string): boolean {
  return relative(resolve(directory), file)
    .split(sep)
    .some((part) => part.startsWith('.') && part !== '..');
}

function tellLeftOut(path: string, what: string, files: readonly string[], onNotice: OnNotice): void {
  if (files.length === 0) return;
  const names = files.slice(0, 3).map((file) => shown(shortPath(file)));
  const more = files.length > names.length ? ', …' : '';
  const counted = files.length === 1 ? `a ${what} is` : `${files.length} ${what.replace('file', 'files')} are`;
  onNotice(`${shown(path)}: ${counted} left out (${names.join(', ')}${more}).`);
}

/** As a user in the working directory would write it. */
function shortPath(path: string): string {
  const short = relative(process.cwd(), path);
  return short.startsWith('..') ? path : short;
}

/** Files at any depth, through links to directories too, each directory once. A link to nothing counts as a file. */
function readDirectory(path: string, visited = new Set<string>()): string[] {
  try {
    const real = realpathSync(path);
    if (visited.has(real)) return [];
    visited.add(real);
    return readdirSync(path)
      .map((name) => resolve(path, name))
      .flatMap((entry) => {
        const stats = stat(entry);
        if (stats?.isDirectory()) return readDirectory(entry, visited);
        return !stats || stats.isFile() ? [entry] : [];
      })
      .sort();
  } catch (error) {
    throw explainSystemError(error, `cannot read ${shown(path)}`);
  }
}

function stat(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENAMETOOLONG' || code === 'ENOTDIR' || code === 'ELOOP') return undefined;
    if (code === 'ERR_INVALID_ARG_VALUE') throw new UserError(`cannot read ${shown(path)}: a path cannot hold a NUL.`);
    throw explainSystemError(error, `cannot read ${shown(path)}`);
  }
}
