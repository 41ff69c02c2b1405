/** An expression as it was written; nothing is simplified. */
export type Expression =
  | { kind: 'number'; digits: string }
  | { kind: 'symbol'; name: string }
  | { kind: 'sum' | 'product'; left: Expression; right: Expression }
  | { kind: 'power'; base: Expression; exponent: Expression }
  /** A function with a meaning (`sin`, `factorial`, …) */
  | { kind: 'function'; name: string; arguments: readonly Expression[] }
  /** A function of no meaning, such as the x of x(y+1). */
  | { kind: 'application'; name: string; arguments: readonly Expression[] }
  /** A comparison, derivative, integral, sum over a range, limit: read, but not computed with. */
  | { kind: 'other'; what: 'relation' | 'derivative' | 'unsupported' };

export const number = (digits: string | number): Expression => ({ kind: 'number', digits: String(digits) });
export const symbol = (name: string): Expression => ({ kind: 'symbol', name });
export const sum = (left: Expression, right: Expression): Expression => ({ kind: 'sum', left, right });
export const product = (left: Expression, right: Expression): Expression => ({ kind: 'product', left, right });
export const power = (base: Expression, exponent: Expression): Expression => ({ kind: 'power', base, exponent });
export const call = (name: string, ...args: Expression[]): Expression => ({ kind: 'function', name, arguments: args });
export const quotient = (left: Expression, right: Expression): Expression => product(left, power(right, number(-1)));
export const negative = (value: Expression): Expression => product(number(-1), value);
export const other = (what: 'relation' | 'derivative' | 'unsupported'): Expression => ({ kind: 'other', what });

/** What an expression is made of. */
export function directPartsOf(expression: Expression): readonly Expression[] {
  switch (expression.kind) {
    case 'sum':
    case 'product':
      return [expression.left, expression.right];
    case 'power':
      return [expression.base, expression.exponent];
    case 'function':
    case 'application':
      return expression.arguments;
    default:
      return [];
  }
}

/** All parts of an expression, itself first. */
export function* partsOf(expression: Expression): Generator<Expression> {
  yield expression;
  for (const part of directPartsOf(expression)) yield* partsOf(part);
}
