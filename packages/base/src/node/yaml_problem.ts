/** Of everything zod finds wrong with a value, the one thing to report: which key, and what was expected. */
import type { z } from 'zod';
import { nearest } from './nearest.js';

type Path = readonly PropertyKey[];
type Issue = z.core.$ZodIssue;

export interface Problem {
  path: Path;
  /** The message, given the key's path as the user writes it. */
  message: (at: string) => string;
}

export function describeProblem(issues: readonly Issue[], schema: z.ZodType, value: unknown): Problem {
  const narrowed = issues.map(insideUnion);
  // A misspelt key is often a missing one too; its own message helps more.
  const issue = narrowed.find(({ code }) => code === 'unrecognized_keys') ?? narrowed[0]!;
  if (issue.code === 'unrecognized_keys') return unknownKey(issue.keys[0]!, issue.path, schema, value);
  const given = valueAt(value, issue.path);
  const message = messageOf(issue, schema);
  if (given === undefined && issue.code !== 'custom') {
    return { path: issue.path, message: (at) => `key '${at || 'the file'}' is missing (${ofMissing(message)}).` };
  }
  // A fault of a whole mapping is reported without printing the mapping.
  const said = typeof given === 'object' || given === undefined ? '' : ` (got ${JSON.stringify(given)})`;
  return { path: issue.path, message: (at) => `${at || 'the file'}: ${message}${said}.` };
}

/** That nothing was there is said already. */
const ofMissing = (message: string) => message.replace(/^invalid input: /, '').replace(/, received undefined$/, '');

function unknownKey(key: string, parent: Path, schema: z.ZodType, value: unknown): Problem {
  const known = knownKeys(schema, parent, value);
  const near = nearest(key, known);
  const isSpeltSo = (other: string | undefined) => other?.toLowerCase() === key.toLowerCase();
  const inside = isSpeltSo(near) ? [] : insideKeys(schema, parent, value).filter((path) => isSpeltSo(path.at(-1)));
  const meant = inside.length > 0 ? inside.map((path) => path.join('.')) : near === undefined ? [] : [near];
  const message = (at: string) => {
    const whole = meant.map((one) => `'${at.slice(0, at.length - key.length)}${one}'`);
    const hint = whole.length > 0 ? `did you mean ${whole.join(' or ')}?` : `expected one of ${known.join(', ')}.`;
    return `key '${at}' is not known; ${hint}`;
  };
  return { path: [...parent, key], message };
}

/** The keys of the mappings that the one at `path` may have in it, down to two levels, as paths from there. */
function insideKeys(schema: z.ZodType, path: Path, value: unknown, depth = 2): string[][] {
  if (depth === 0) return [];
  return knownKeys(schema, path, value).flatMap((key) => {
    const own = knownKeys(schema, [...path, key], value).map((inner) => [key, inner]);
    return [...own, ...insideKeys(schema, [...path, key], value, depth - 1).map((inner) => [key, ...inner])];
  });
}

/** Of a union's failures, that of the branch that comes nearest to the value: one that looked inside it. */
function insideUnion(issue: Issue): Issue {
  if (issue.code !== 'invalid_union') return issue;
  const outside = ({ path, code }: Issue) =>
    path[0] === 'kind' || (path.length === 0 && code !== 'unrecognized_keys' && code !== 'custom');
  const [branch] = issue.errors
    .filter((issues) => issues.length > 0 && !issues.some(outside))
    .toSorted((a, b) => a.length - b.length);
  const inner = branch?.find(({ code }) => code === 'unrecognized_keys') ?? branch?.[0];
  return inner ? insideUnion({ ...inner, path: [...issue.path, ...inner.path] } as Issue) : issue;
}

/** zod's message; where a `kind` chooses among alternatives it does not name them, so they are named here. */
function messageOf(issue: Issue, schema: z.ZodType): string {
  const isKind = issue.code === 'invalid_union' && issue.errors.length === 0 && issue.path.at(-1) === 'kind';
  const kinds = isKind ? kindsAt(schema, issue.path.slice(0, -1)) : [];
  if (kinds.length > 0) return `expected one of ${kinds.join(', ')}`;
  return issue.message.charAt(0).toLowerCase() + issue.message.slice(1);
}

function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>((at, key) => (at as Record<PropertyKey, unknown> | null | undefined)?.[key], value);
}

type Definition = Record<string, unknown> | undefined;

const definitionOf = (schema: unknown): Definition =>
  (schema as { _zod?: { def: Record<string, unknown> } } | undefined)?._zod?.def;

/** The schemas that hold at `path`: through optionals, defaults, pipes, arrays and every branch of a union. */
function schemasAt(schema: unknown, path: Path): Definition[] {
  const def = definitionOf(schema);
  if (!def) return [];
  if (def.innerType) return schemasAt(def.innerType, path);
  if (def.type === 'pipe') return schemasAt(definitionOf(def.in)?.type === 'transform' ? def.out : def.in, path);
  if (Array.isArray(def.options)) return def.options.flatMap((option) => schemasAt(option, path));
  if (path.length === 0) return [def];
  const [key, ...rest] = path;
  return schemasAt(def.element ?? (def.shape as Record<PropertyKey, unknown> | undefined)?.[key!], rest);
}

/** The keys that the schema knows at `path`; of alternatives, those that fit the value's `kind`. */
function knownKeys(schema: z.ZodType, path: Path, value: unknown): string[] {
  const shapes = schemasAt(schema, path).flatMap((def) => (def?.shape ? [def.shape as Record<string, unknown>] : []));
  const kind = (valueAt(value, path) as { kind?: unknown } | null | undefined)?.kind;
  const fitting = shapes.filter((shape) => kind === undefined || kindOf(shape) === kind);
  return [...new Set((fitting.length > 0 ? fitting : shapes).flatMap((shape) => Object.keys(shape)))];
}

function kindsAt(schema: z.ZodType, path: Path): string[] {
  return schemasAt(schema, path).flatMap((def) => {
    const kind = def?.shape ? kindOf(def.shape as Record<string, unknown>) : undefined;
    return typeof kind === 'string' ? [kind] : [];
  });
}

function kindOf(shape: Record<string, unknown>): unknown {
  return (definitionOf(shape.kind)?.values as unknown[] | undefined)?.[0];
}
