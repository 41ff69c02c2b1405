/** YAML files checked by a zod schema; a mistake is one line that names file, line, key and what was expected. */
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { Document, isMap, isNode, isSeq, LineCounter, parseDocument, type Scalar } from 'yaml';
import type { z } from 'zod';
import { UserError } from '../errors.js';
import { ownValue } from '../own_value.js';
import { shown } from '../shown.js';
import { readWhole } from './read_whole.js';
import { type Layered, layerAt, layerOf, layOver, valuesOf } from './yaml_layers.js';
import { describeProblem } from './yaml_problem.js';
import { substituteEnvironment, substituteHome } from './yaml_substitute.js';

type Path = readonly PropertyKey[];

/** Options of `readYaml` and `parseYaml`. */
export interface YamlOptions {
  /**
   * Each `key.path=value`, which replaces a value of the file; list elements by number from 0, the value read as YAML.
   */
  overrides?: readonly string[];
  /** Read only this top-level key. */
  section?: string;
  /**
   * The file is one that people write: `${NAME}` is the environment's, `~/` the home directory, and `extends: FILE`
   * names a file that this one is laid over, relative to this file, or else what `find` makes of it.
   */
  composed?: {
    /**
     * The path of a file that `extends` names and that is not beside this one; the path need not exist.
     *
     * @throws UserError where there is no such file to name
     */
    find(name: string): string;
  };
}

/** A file of a chain in which each extends the one before. */
interface Layer {
  file: string;
  document: Document;
  lines: LineCounter;
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
  return parseYaml(readWhole(file).toString(), file, schema, options);
}

/** The same for a text; `file` appears in messages, and `extends` is relative to it. */
export function parseYaml<Schema extends z.ZodType>(
  text: string,
  file: string,
  schema: Schema,
  { overrides = [], section, composed }: YamlOptions = {},
): z.output<Schema> {
  const layered = composed ? composedOf(text, file, composed) : undefined;
  const own = layered ? undefined : readLayer(text, file);
  const document = own ? own.document : new Document(valuesOf(layered!));
  const overridden = overrides.map((override) => applyOverride(document, override, composed !== undefined));
  const content = contentOf(document, file);
  const base = section === undefined ? [] : [section];
  const value = section === undefined ? content : ownValue((content ?? {}) as Record<string, unknown>, section);
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problem = describeProblem(result.error.issues, schema, value);
  const path = [...base, ...problem.path];
  // Of several that set the same key, the last holds.
  const source = overridden.findLast((one) => startsWith(path, one.path.slice(0, Math.max(path.length, one.had + 1))));
  const at = own ?? layerAt(layered!, path);
  const where = source ? `override '${source.text}'` : `${at.file}:${lineOf(at.document, path, at.lines)}`;
  throw new UserError(`${where}: ${problem.message(path.map(String).join('.'))}`);
}

function readLayer(text: string, file: string): Layer {
  const lines = new LineCounter();
  const document = documentOf(text, file, lines);
  const broken = document.errors[0] ?? document.warnings[0];
  if (broken) {
    const line = lines.linePos(broken.pos[0]).line;
    if (broken.code === 'DUPLICATE_KEY')
      throw new UserError(`${file}:${line}: key '${keyAt(text, broken.pos[0])}' is given twice; give it once.`);
    throw new UserError(`${file}:${line}: this is not YAML: ${firstLine(broken.message)}`);
  }
  return { file, document, lines };
}

/** The key that begins there, without its quotes. */
function keyAt(text: string, at: number): string {
  const [, quoted, plain] = /^(?:["']([^"']*)["']|([^:\n]*))/.exec(text.slice(at, at + 200)) ?? [];
  return shown((quoted ?? plain ?? '').trim());
}

/** A file laid over the one that it extends, and that over the next. */
function composedOf(
  text: string,
  file: string,
  shipped: { find(name: string): string },
  above: readonly string[] = [],
): Layered<Layer> {
  const layer = readLayer(text, file);
  const lineOfScalar = (at: number | undefined) => (at === undefined ? 1 : layer.lines.linePos(at).line);
  const whereIs = (scalar: Scalar) => `${file}:${lineOfScalar(scalar.range?.[0])}`;
  substituteEnvironment(layer.document, whereIs);
  substituteHome(layer.document, whereIs);
  const whole = contentOf(layer.document, file);
  const { extends: base, ...content } = { ...(whole as Record<string, unknown> | null) };
  if (base === undefined) return layerOf(whole, layer);
  const where = `${file}:${lineOf(layer.document, ['extends'], layer.lines)}`;
  if (typeof base !== 'string' || base === '') throw new UserError(`${where}: extends: expected the path of a file.`);
  const near = resolve(dirname(file), base);
  const path = existsSync(near) ? near : shipped.find(base);
  const chain = [...above, resolve(file)];
  if (chain.includes(resolve(path))) throw new UserError(`${where}: extends: ${base} in turn extends this file.`);
  let below: string;
  try {
    below = readWhole(path).toString();
  } catch (error) {
    throw new UserError(`${where}: extends: ${(error as Error).message}`);
  }
  return layOver(composedOf(below, path, shipped, chain), layerOf(content, layer));
}

/** Nesting beyond what the parser's recursion bears is no configuration. */
function documentOf(text: string, file: string, lineCounter: LineCounter): Document {
  try {
    return parseDocument(text, { lineCounter, prettyErrors: false });
  } catch (error) {
    throw new UserError(`${file} cannot be read as YAML: ${firstLine((error as Error).message)}.`);
  }
}

/** The file's plain values. An alias may name nothing, or unfold to more than anybody wrote by hand. */
function contentOf(document: Document, file: string): unknown {
  try {
    return document.toJS() as unknown;
  } catch (error) {
    throw new UserError(`${file} cannot be read as YAML: ${firstLine((error as Error).message)}.`);
  }
}

function startsWith(path: Path, prefix: Path): boolean {
  return prefix.every((key, i) => String(key) === String(path[i]));
}

interface Override {
  text: string;
  path: Path;
  /** How many of the path's keys were there before. */
  had: number;
}

function applyOverride(document: Document, text: string, composed: boolean): Override {
  const equals = text.indexOf('=');
  const path = text
    .slice(0, Math.max(0, equals))
    .split('.')
    .map((key) => (/^\d+$/.test(key) ? Number(key) : key));
  if (path.includes('')) throw new UserError(`override '${shown(text)}': expected key.path=value, such as seed=1.`);
  checkIndices(document, path, text);
  const missing = path.findIndex((_, depth) => !document.hasIn(path.slice(0, depth + 1)));
  try {
    const value = parsedValue(text.slice(equals + 1));
    if (composed) substituteHome(value, () => 'its value');
    document.setIn(path, document.createNode(value.toJS()));
  } catch (error) {
    throw new UserError(`override '${shown(text)}' cannot be applied: ${firstLine((error as Error).message)}.`);
  }
  return { text, path, had: missing < 0 ? path.length : missing };
}

/** A value as YAML has it. @throws what makes it none */
function parsedValue(text: string): Document {
  const value = parseDocument(text, { prettyErrors: false });
  const broken = value.errors[0] ?? value.warnings[0];
  if (broken) throw broken;
  return value;
}

/** A list grows by one element at a time: a number far beyond its end would fill it up with nothing. */
function checkIndices(document: Document, path: Path, text: string): void {
  for (const [depth, key] of path.entries()) {
    const parent = depth === 0 ? document.contents : document.getIn(path.slice(0, depth), true);
    if (typeof key !== 'number' || (parent !== undefined && !isSeq(parent))) continue;
    const length = isSeq(parent) ? parent.items.length : 0;
    if (key > length)
      throw new UserError(
        `override '${shown(text)}': the list has ${length} elements, so that ${key} is beyond its end.`,
      );
  }
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
