// A source says where text comes from: files, globs or directories, and which field of a record holds the text.
import { readdirSync, type Stats, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { explainSystemError, UserError } from '@stickbreaking/base';
import { globSync, isDynamicPattern } from 'tinyglobby';
import { z } from 'zod';

export const formats = ['txt', 'jsonl', 'jsonl.zst', 'parquet'] as const;
export type SourceFormat = (typeof formats)[number];

export const SourceConfigSchema = z.strictObject({
  /** A file, a directory (searched to any depth for the known endings) or a glob; or a list of them. */
  path: z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]),
  /** The field (.jsonl, .jsonl.zst) or column (.parquet) that holds the text. */
  field: z.string().min(1).default('text'),
  /** Share of the mixture's tokens, relative to the other sources' weights. */
  weight: z.number().positive().default(1),
  /** A name for logs and for the directory of the shards. */
  name: z.string().min(1).optional(),
  /** How to read the files; by default the file name's ending says it. */
  format: z.enum(formats).optional(),
  /** What a document is in a .txt file: the whole file, a line, or a run of lines between blank lines. */
  split: z.enum(['file', 'line', 'blank-line']).default('file'),
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
  /** bytes */
  size: number;
  /** time of the last change, in milliseconds since 1970 */
  mtimeMs: number;
}

/** Checks a source and fills its defaults in; the error is one line that names the key. */
export function parseSource(source: SourceInput): SourceConfig {
  const result = SourceConfigSchema.safeParse(source);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const key = issue.path.join('.');
  throw new UserError(`data source${key && `, key '${key}'`}: ${issue.message}.`);
}

/**
 * The files of a source: paths in the order given, those of a glob or directory sorted by name.
 * Throws a UserError when a path matches nothing, or a file is empty, unreadable or of no known kind.
 */
export function listFiles(input: SourceInput): SourceFile[] {
  const source = parseSource(input);
  const paths = [source.path].flat().flatMap((path) => expand(path, source.format));
  return [...new Set(paths)].map((path) => {
    const stats = stat(path);
    if (!stats) throw new UserError(`cannot read ${path}: there is no such file.`, { missing: true });
    if (!stats.isFile()) throw new UserError(`cannot read ${path}: it is not a regular file.`);
    if (stats.size === 0) throw new UserError(`${path} is empty; give a file with text in it.`);
    const format = source.format ?? formatOf(path);
    if (!format) {
      throw new UserError(
        `${path}: unknown kind of file; expected ${formats.map((f) => `.${f}`).join(', ')} (or name its format: ${formats.join(', ')}).`,
      );
    }
    return { path, format, field: source.field, split: source.split, size: stats.size, mtimeMs: stats.mtimeMs };
  });
}

function formatOf(path: string): SourceFormat | undefined {
  return formats.find((format) => path.toLowerCase().endsWith(`.${format}`));
}

/** A path as it stands wins over reading it as a glob, so that a file may be called `[1].txt`. */
function expand(path: string, format: SourceFormat | undefined): string[] {
  const stats = stat(path);
  if (stats?.isDirectory()) {
    const files = readDirectory(path).filter((file) => format || formatOf(file));
    if (files.length > 0) return files;
    throw new UserError(`the directory ${path} holds no ${formats.map((f) => `.${f}`).join(', ')} file.`);
  }
  if (stats || !isDynamicPattern(path)) return [resolve(path)];
  const files = globSync(path.replaceAll('\\', '/'), { absolute: true, onlyFiles: true, expandDirectories: false });
  if (files.length === 0) throw new UserError(`no file matches ${path}.`, { missing: true });
  return files.sort();
}

function readDirectory(path: string): string[] {
  try {
    return readdirSync(path, { recursive: true, encoding: 'utf8' })
      .map((name) => resolve(path, name))
      .filter((file) => stat(file)?.isFile())
      .sort();
  } catch (error) {
    throw explainSystemError(error, `cannot read ${path}`);
  }
}

function stat(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENAMETOOLONG') return undefined;
    throw explainSystemError(error, `cannot read ${path}`);
  }
}
