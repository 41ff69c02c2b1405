// Reads a YAML file against a zod schema, with `key.path=value` changes from the command line, and tells a mistake in
// one line: the file and its line (or the change), the key, what was expected, and the nearest right key.
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { closest, distance } from 'fastest-levenshtein';
import { type Document, isMap, isNode, LineCounter, parseDocument, parse as parseYaml } from 'yaml';
import type { z } from 'zod';
import { explain, TrainError } from './errors.js';

type Key = string | number;
type Issue = z.core.$ZodIssue;

export interface YamlOptions {
  /** Changes written `key.path=value`; list elements by number from 0. */
  overrides?: readonly string[];
  /** Names of keys whose values in `overrides` are paths: these are relative to the working directory. */
  pathKeys?: readonly string[];
}

interface Override {
  text: string;
  path: Key[];
}

/** Reads and checks a YAML file. Throws a TrainError with one line. */
export function readYaml<S extends z.ZodType>(file: string, schema: S, options: YamlOptions = {}): z.output<S> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw explain(error, `cannot read ${file}`);
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const broken = document.errors[0];
  if (broken) throw new TrainError(`${file}:${lines.linePos(broken.pos[0]).line}: ${oneLine(broken.message)}`);
  const overrides = (options.overrides ?? []).map((change) => applyOverride(document, change, options.pathKeys ?? []));
  const value = document.toJS();
  const result = schema.safeParse(value);
  if (result.success) return result.data;

  const issues = result.error.issues.map(deepest);
  // A misspelt key is often a missing one too; its own message helps more.
  const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0]!;
  const at = issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0]!] : issue.path;
  const path = at as Key[];
  const override = overrides.find((o) => o.path.every((key, i) => String(key) === String(path[i])));
  const where = override ? `change '${override.text}'` : `${file}:${lineOf(document, lines, path)}`;
  throw new TrainError(`${where}: ${explainIssue(issue, path, value, schema)}`);
}

function applyOverride(document: Document, text: string, pathKeys: readonly string[]): Override {
  const equals = text.indexOf('=');
  const path = text
    .slice(0, Math.max(0, equals))
    .split('.')
    .map((key) => (/^\d+$/.test(key) ? Number(key) : key));
  if (equals < 1 || path.includes('')) {
    throw new TrainError(`change '${text}': expected key.path=value, for instance optimizer.beta2=0.99`);
  }
  try {
    let value: unknown = parseYaml(text.slice(equals + 1));
    if (typeof value === 'string' && pathKeys.includes(String(path.at(-1)))) value = resolve(value);
    document.setIn(path, document.createNode(value));
  } catch (error) {
    throw new TrainError(`change '${text}': ${oneLine((error as Error).message)}`);
  }
  return { text, path };
}

/** Of a union's failures, the one of the alternative that came furthest. */
function deepest(issue: Issue): Issue {
  if (issue.code !== 'invalid_union' || issue.errors.length === 0) return issue;
  const candidates = issue.errors
    .flatMap((errors) => errors.slice(0, 1))
    .map((inner) => deepest({ ...inner, path: [...issue.path, ...inner.path] } as Issue));
  candidates.sort((a, b) => reach(b) - reach(a));
  return candidates[0] ?? issue;
}

const reach = (issue: Issue) => issue.path.length + (issue.code === 'unrecognized_keys' ? 0.5 : 0);

function explainIssue(issue: Issue, path: Key[], value: unknown, schema: z.ZodType): string {
  const name = path.join('.') || 'the file';
  if (issue.code === 'unrecognized_keys') {
    const known = keysAt(schema, issue.path as Key[], value);
    const wrong = String(path.at(-1));
    const nearest = known.length > 0 ? closest(wrong, known) : undefined;
    const near = nearest !== undefined && distance(wrong, nearest) <= Math.max(2, wrong.length / 2);
    return `unknown key '${name}'; ${near ? `did you mean '${nearest}'?` : `expected one of ${known.join(', ')}`}`;
  }
  const given = path.reduce<unknown>((inner, key) => (inner as Record<Key, unknown> | null)?.[key], value);
  if (given === undefined) return `key '${name}' is missing (${oneLine(issue.message)})`;
  const shown = typeof given === 'object' ? '' : ` is ${JSON.stringify(given)}`;
  return `key '${name}'${shown}: ${oneLine(issue.message)}`;
}

/** The keys that the schema knows at `path`; of alternatives, those that fit the value's `kind`. */
function keysAt(schema: unknown, path: readonly Key[], value: unknown): string[] {
  const { _zod } = schema as { _zod: { def: Record<string, unknown> & { type: string } } };
  const { def } = _zod;
  const inner = def.innerType ?? (def.type === 'pipe' ? pipeObject(def) : undefined);
  if (inner) return keysAt(inner, path, value);
  if (def.type === 'union') {
    const all = (def.options as unknown[]).map((option) => ({ option, keys: keysAt(option, path, value) }));
    const kind = (value as { kind?: unknown } | null)?.kind;
    const fitting = all.filter(({ option }) => kind === undefined || literalKind(option) === kind);
    return [...new Set((fitting.length > 0 ? fitting : all).flatMap(({ keys }) => keys))];
  }
  const [key, ...rest] = path;
  const shape = def.shape as Record<string, unknown> | undefined;
  if (key === undefined) return Object.keys(shape ?? {});
  const next = def.type === 'array' ? def.element : shape?.[key];
  return next ? keysAt(next, rest, (value as Record<Key, unknown> | null)?.[key]) : [];
}

/** Of a pipe (transform, preprocess), the side that describes keys. */
function pipeObject(def: Record<string, unknown>): unknown {
  const side = def.in as { _zod: { def: { type: string } } };
  return side._zod.def.type === 'transform' ? def.out : side;
}

function literalKind(option: unknown): unknown {
  const shape = (option as { _zod: { def: { shape?: Record<string, unknown> } } })._zod.def.shape;
  const kind = shape?.kind as { _zod: { def: { values?: unknown[] } } } | undefined;
  return kind?._zod.def.values?.[0];
}

/** The line of the deepest part of `path` that stands in the file. */
function lineOf(document: Document, lines: LineCounter, path: readonly Key[]): number {
  for (let length = path.length; length > 0; length--) {
    const parent = document.getIn(path.slice(0, length - 1), true);
    const pair = isMap(parent) ? parent.items.find(({ key }) => String(key) === String(path[length - 1])) : undefined;
    const node = pair ? pair.key : document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return 1;
}

const oneLine = (message: string) => message.split('\n')[0]!;
