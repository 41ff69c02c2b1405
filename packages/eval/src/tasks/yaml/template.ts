/** Jinja templates of task files, on @huggingface/jinja: text of a row, or a value where the template is one expression. */
import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja';
import { shown, UserError } from '@stickbreaking/base';
import { pythonText, type TemplateValue } from '../../python/repr.js';
import { words } from '../../python/text.js';
import type { Row } from '../definition.js';

/** A template that was read. */
export interface RowTemplate {
  /** As text. */
  render(row: Row): string;
  /** The value itself, such as a list, where the template is a single expression; else the text. */
  value(row: Row): unknown;
}

/**
 * Reads a template.
 *
 * @param where names the field in errors
 * @throws UserError where it is none
 */
export function templateOf(source: string, where: string): RowTemplate {
  // The library drops a line feed at the end, which the harness keeps.
  const kept = source.endsWith('\n') ? `${source}\n` : source;
  const program = explained(where, () => parse(tokenize(kept, { lstrip_blocks: false, trim_blocks: false })));
  const body = (withLookups(program) as { body: Node[] }).body;
  const single = body.length === 1 && source.startsWith('{{') && source.endsWith('}}') ? body[0] : undefined;
  printingAsPython(program);
  const render = (row: Row) =>
    explained(
      where,
      () => `${(new Interpreter(environmentOf(row, where)).run(program as never) as unknown as Value).value}`,
    );
  return {
    render,
    value: (row) => {
      if (!single) return render(row);
      const environment = environmentOf(row, where);
      return explained(where, () =>
        plain(new Interpreter(environment).evaluate(single as never, environment) as unknown as Value),
      );
    },
  };
}

type Node = Record<string, unknown>;
type Value = TemplateValue;

/** Python's methods of lists that the library lacks, as calls of functions that it is given. */
const METHODS: Readonly<Record<string, string>> = { index: '__index__', count: '__count__' };

function withLookups(node: unknown): unknown {
  if (typeof node !== 'object' || node === null) return node;
  for (const child of Object.values(node as Node)) withLookups(child);
  const call = node as { type?: string; callee?: Node; args?: unknown[] };
  const property =
    call.type === 'CallExpression' && call.callee?.type === 'MemberExpression'
      ? (call.callee.property as Node)
      : undefined;
  const method = METHODS[property?.value as string];
  if (method === undefined || call.callee!.computed) return node;
  call.args = [call.callee!.object, ...call.args!];
  call.callee = Object.assign(Object.create(Object.getPrototypeOf(property!)), {
    type: 'Identifier',
    value: method,
  }) as Node;
  return node;
}

/** What stands in a template and prints nothing, or text. */
const STATEMENTS = ['If', 'For', 'Set', 'Macro', 'Comment', 'Break', 'Continue', 'CallStatement', 'FilterStatement'];
const PRINT = '__text__';

/** Puts each expression that is printed through a function which writes it as Python does, not as JavaScript. */
function printingAsPython(node: unknown): void {
  if (typeof node !== 'object' || node === null) return;
  for (const [key, child] of Object.entries(node as Node)) {
    printingAsPython(child);
    if (!Array.isArray(child) || !['body', 'alternate', 'defaultBlock'].includes(key)) continue;
    (node as Node)[key] = child.map((one: { type: string }) =>
      one.type === 'StringLiteral' || STATEMENTS.includes(one.type) ? one : callOf(PRINT, one),
    );
  }
}

function callOf(name: string, argument: unknown): unknown {
  const [call] = parse(tokenize(`{{ ${name}(0) }}`)).body;
  return Object.assign(call!, { args: [argument] });
}

/** The library gives its functions bare values; this one has to know their types. */
function setPrint(environment: Environment, where: string): void {
  environment.set(PRINT, (text: unknown) => text);
  const print = environment.lookupVariable(PRINT) as unknown as { value: (args: Value[], scope: unknown) => unknown };
  const toValue = print.value;
  print.value = ([one], scope) => {
    const text = pythonText(one!);
    if (text === undefined) throw new UserError(`${where}: it prints a function; call it.`);
    return toValue([{ type: 'StringValue', value: text }], scope);
  };
}

function environmentOf(row: Row, where: string): Environment {
  const environment = new Environment();
  for (const [name, value] of Object.entries(row)) environment.set(name, value as never);
  const list = (value: unknown) =>
    typeof value === 'string' ? [...value] : (value as Value[]).map((one) => one.value);
  environment.set('__index__', (items: unknown, item: unknown) => {
    const index = list(items).indexOf(item);
    if (index < 0) throw new UserError(`${where}: '${shown(String(item))}' is none of its choices.`);
    return index;
  });
  environment.set('__count__', (items: unknown, item: unknown) => list(items).filter((one) => one === item).length);
  environment.set('range', (...bounds: number[]) => {
    const [first, end] = bounds.length === 1 ? [0, bounds[0]!] : (bounds as [number, number]);
    return Array.from({ length: Math.max(0, end - first) }, (_, i) => first + i);
  });
  setPrint(environment, where);
  const lookup = environment.lookupVariable.bind(environment);
  environment.lookupVariable = (name: string) => {
    const found = lookup(name);
    if (found.type !== 'UndefinedValue') return found;
    throw new UserError(
      `${where}: there is no column '${shown(name)}'; the row has ${shown(Object.keys(row).join(', '))}.`,
    );
  };
  return environment;
}

function plain({ type, value }: Value): unknown {
  if (type === 'ArrayValue' || type === 'TupleValue') return (value as Value[]).map(plain);
  if (type === 'ObjectValue')
    return Object.fromEntries([...(value as Map<string, Value>)].map(([key, one]) => [key, plain(one)]));
  return value;
}

function explained<T>(where: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${where}: ${words(shown((error as Error).message)).join(' ')}.`, { cause: error });
  }
}
