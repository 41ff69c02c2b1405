/** YAML files checked by a zod schema; a mistake is one line that names file, line, key and what was expected. */
import { readFileSync } from 'node:fs';
import { UserError } from '@stickbreaking/core';
import { distance } from 'fastest-levenshtein';
import { type Document, isNode, LineCounter, parse, parseDocument } from 'yaml';
import type { z } from 'zod';

type Path = readonly PropertyKey[];

export interface YamlOptions {
  /** `key.path=value` each, laid over the file; the value is read as YAML. */
  overrides?: readonly string[];
  /** Look only at this top-level key. */
  section?: string;
}

/**
 * Reads a YAML (or JSON) file against a schema.
 *
 * @throws UserError with file and line where it cannot be read, is no YAML, or does not fit the schema
 */
export function readYaml<Schema extends z.ZodType>(
  file: string,
  schema: Schema,
  options: YamlOptions = {},
): z.output<Schema> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new UserError(`${file} cannot be read: ${(error as NodeJS.ErrnoException).code ?? error}.`);
  }
  return parseYaml(text, file, schema, options);
}

/** As `readYaml`, on a text; `file` is only named in messages. */
export function parseYaml<Schema extends z.ZodType>(
  text: string,
  file: string,
  schema: Schema,
  { overrides = [], section }: YamlOptions = {},
): z.output<Schema> {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const broken = document.errors[0];
  if (broken) {
    const line = lines.linePos(broken.pos[0]).line;
    throw new UserError(`${file}:${line}: this is not YAML: ${broken.message.split('\n')[0]}`);
  }
  const overridden = overrides.map((override) => applyOverride(document, override));
  const content = document.toJS() as unknown;
  const base = section === undefined ? [] : [section];
  const value = section === undefined ? content : (content as Record<string, unknown> | null)?.[section];
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problem = describe(result.error.issues[0]!, schema, value);
  const path = [...base, ...problem.path];
  const source = overridden.find((one) => one.path.length > 0 && startsWith(path, one.path));
  const where = source ? `override '${source.text}'` : `${file}:${lineOf(document, path, lines)}`;
  throw new UserError(`${where}: ${problem.message(path.map(String).join('.'))}`);
}

function startsWith(path: Path, prefix: Path): boolean {
  return prefix.every((key, i) => String(key) === String(path[i]));
}

function applyOverride(document: Document, text: string): { text: string; path: Path } {
  const equals = text.indexOf('=');
  if (equals < 1) throw new UserError(`override '${text}': expected key.path=value.`);
  const path = text
    .slice(0, equals)
    .split('.')
    .map((key) => (/^\d+$/.test(key) ? Number(key) : key));
  try {
    document.setIn(path, document.createNode(parse(text.slice(equals + 1))));
  } catch (error) {
    throw new UserError(`override '${text}' cannot be applied: ${(error as Error).message.split('\n')[0]}.`);
  }
  return { text, path };
}

/** The line of the node at `path`, or of its nearest parent that the file has. */
function lineOf(document: Document, path: Path, lines: LineCounter): number {
  for (let length = path.length; length > 0; length--) {
    const parent: unknown = length > 1 ? document.getIn(path.slice(0, length - 1), true) : document.contents;
    const pairs = (parent as { items?: { key?: unknown; range?: [number, number, number] }[] } | null)?.items;
    const last = path[length - 1];
    const item = typeof last === 'number' ? pairs?.[last] : pairs?.find(({ key }) => String(key) === String(last));
    const node = isNode(item) ? item : (item?.key as { range?: [number, number, number] } | undefined);
    if (node?.range) return lines.linePos(node.range[0]).line;
  }
  return 1;
}

interface Problem {
  path: Path;
  message: (at: string) => string;
}

type Issue = z.core.$ZodIssue;

function describe(issue: Issue, schema: z.ZodType, value: unknown): Problem {
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0]!;
    const known = knownKeys(schema, issue.path);
    const nearest = known.toSorted((a, b) => distance(a, key) - distance(b, key))[0];
    const close = nearest !== undefined && distance(nearest, key) <= Math.max(2, key.length / 2);
    const hint = close ? `did you mean '${nearest}'?` : `expected one of ${known.join(', ')}.`;
    return { path: [...issue.path, key], message: (at) => `key '${at}' is not known; ${hint}` };
  }
  if (issue.code === 'invalid_union') {
    const inner = closestBranch(issue.errors);
    if (inner) {
      const problem = describe({ ...inner, path: [...issue.path, ...inner.path] } as Issue, schema, value);
      return problem;
    }
  }
  const given = issue.path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown> | undefined)?.[key], value);
  const said = given === undefined ? '' : ` (got ${JSON.stringify(given)})`;
  return { path: issue.path, message: (at) => `${at || 'the file'}: ${lowerFirst(issue.message)}${said}.` };
}

/** The branch of a union that the value came nearest to: one that looked inside it and found the fewest faults. */
function closestBranch(branches: readonly (readonly Issue[])[]): Issue | undefined {
  const inside = branches
    .filter(
      (issues) =>
        issues.length > 0 &&
        !issues.some(
          ({ path, code }) =>
            path[0] === 'kind' || (path.length === 0 && code !== 'unrecognized_keys' && code !== 'custom'),
        ),
    )
    .toSorted((a, b) => a.length - b.length);
  return inside[0]?.[0];
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

/** The keys that the schema knows at `path`, through optionals, defaults, pipes, arrays and unions. */
function knownKeys(schema: unknown, path: Path): string[] {
  const def = (schema as { _zod?: { def: Record<string, unknown> } } | undefined)?._zod?.def;
  if (!def) return [];
  if (def.innerType) return knownKeys(def.innerType, path);
  if (def.in) return knownKeys(def.in, path);
  if (Array.isArray(def.options)) return [...new Set(def.options.flatMap((option) => knownKeys(option, path)))];
  if (def.element && typeof path[0] === 'number') return knownKeys(def.element, path.slice(1));
  const shape = def.shape as Record<PropertyKey, unknown> | undefined;
  if (!shape) return [];
  return path.length === 0 ? Object.keys(shape) : knownKeys(shape[path[0]!], path.slice(1));
}
