/** YAML files checked by a zod schema; a mistake is one line that names file, line, key and what was expected. */
import { readFileSync } from 'node:fs';
import { type Document, isMap, isNode, LineCounter, parse, parseDocument } from 'yaml';
import type { z } from 'zod';
import { explainSystemError, UserError } from '../errors.js';
import { describeProblem } from './yaml_problem.js';

type Path = readonly PropertyKey[];

/** Options of `readYaml` and `parseYaml`. */
export interface YamlOptions {
  /**
   * Each `key.path=value`, which replaces a value of the file; list elements by number from 0, the value read as YAML.
   */
  overrides?: readonly string[];
  /** Read only this top-level key. */
  section?: string;
}

/**
 * Reads a YAML (or JSON) file and checks it against a schema.
 *
 * @throws UserError with file and line if it cannot be read, is not YAML, or does not fit the schema
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
    throw explainSystemError(error, `cannot read ${file}`);
  }
  return parseYaml(text, file, schema, options);
}

/** The same for a text; `file` only appears in messages. */
export function parseYaml<Schema extends z.ZodType>(
  text: string,
  file: string,
  schema: Schema,
  { overrides = [], section }: YamlOptions = {},
): z.output<Schema> {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const broken = document.errors[0];
  if (broken) {
    const line = lines.linePos(broken.pos[0]).line;
    throw new UserError(`${file}:${line}: this is not YAML: ${firstLine(broken.message)}`);
  }
  const overridden = overrides.map((override) => applyOverride(document, override));
  const content = document.toJS() as unknown;
  const base = section === undefined ? [] : [section];
  const value = section === undefined ? content : (content as Record<string, unknown> | null)?.[section];
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problem = describeProblem(result.error.issues, schema, value);
  const path = [...base, ...problem.path];
  const source = overridden.find((one) => startsWith(path, one.path));
  const where = source ? `override '${source.text}'` : `${file}:${lineOf(document, path, lines)}`;
  throw new UserError(`${where}: ${problem.message(path.map(String).join('.'))}`);
}

function startsWith(path: Path, prefix: Path): boolean {
  return prefix.every((key, i) => String(key) === String(path[i]));
}

function applyOverride(document: Document, text: string): { text: string; path: Path } {
  const equals = text.indexOf('=');
  const path = text
    .slice(0, Math.max(0, equals))
    .split('.')
    .map((key) => (/^\d+$/.test(key) ? Number(key) : key));
  if (path.includes('')) throw new UserError(`override '${text}': expected key.path=value, such as seed=1.`);
  try {
    document.setIn(path, document.createNode(parse(text.slice(equals + 1))));
  } catch (error) {
    throw new UserError(`override '${text}' cannot be applied: ${firstLine((error as Error).message)}.`);
  }
  return { text, path };
}

/** The line of the node at `path`, or of its nearest parent that the file has. */
function lineOf(document: Document, path: Path, lines: LineCounter): number {
  for (let length = path.length; length > 0; length--) {
    const key = String(path[length - 1]);
    const parent: unknown = length > 1 ? document.getIn(path.slice(0, length - 1), true) : document.contents;
    const pair = isMap(parent) ? parent.items.find((item) => String(item.key) === key) : undefined;
    const node = pair ? pair.key : document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return 1;
}

const firstLine = (message: string) => message.split('\n')[0]!;
