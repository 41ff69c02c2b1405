/** Values as Python writes them: `str()` and `repr()` of what a template's expression may be. */

/** A value of the template library. */
export interface TemplateValue {
  type: string;
  value: unknown;
}

/** `str(value)`; undefined for what has no text, such as a function. */
export function pythonText({ type, value }: TemplateValue): string | undefined {
  if (type === 'StringValue') return value as string;
  return type === 'UndefinedValue' ? '' : repr({ type, value });
}

function repr({ type, value }: TemplateValue): string | undefined {
  const list = (items: readonly TemplateValue[]) => items.map((one) => repr(one) ?? '').join(', ');
  switch (type) {
    case 'StringValue':
      return quoted(value as string);
    case 'IntegerValue':
      return `${value}`;
    case 'FloatValue':
      return Number.isInteger(value) && Math.abs(value as number) < 1e16 ? `${value}.0` : withTwoDigits(`${value}`);
    case 'BooleanValue':
      return value ? 'True' : 'False';
    case 'NullValue':
      return 'None';
    case 'ArrayValue':
      return `[${list(value as TemplateValue[])}]`;
    case 'TupleValue':
      return `(${list(value as TemplateValue[])}${(value as TemplateValue[]).length === 1 ? ',' : ''})`;
    case 'ObjectValue': {
      const entries = [...(value as Map<string, TemplateValue>)];
      return `{${entries.map(([key, one]) => `${quoted(key)}: ${repr(one) ?? ''}`).join(', ')}}`;
    }
    default:
      return undefined;
  }
}

/** Python writes 1e-07 where JavaScript has 1e-7. */
const withTwoDigits = (number: string) => number.replace(/e([+-])(\d)$/, 'e$10$2');

const escapes: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the ones to be escaped
  const inside = text.replace(/[\\\u0000-\u001f\u007f]/g, (one) => {
    return escapes[one] ?? `\\x${one.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
  return quote + inside.replaceAll(quote, `\\${quote}`) + quote;
}
