/** What LaTeX that was read means: the rules by which sympy makes expressions of factors, functions and names. */
import { ownValue } from '@stickbreaking/base';
import { call, type Expression, number, other, partsOf, power, product, quotient } from './expression.js';

/** Commands that take what follows for their argument. */
export const FUNCTIONS = new Set(
  'exp log lg ln sin cos tan csc sec cot arcsin arccos arctan arccsc arcsec arccot sinh cosh tanh arsinh arcosh artanh'.split(
    ' ',
  ),
);
/** LaTeX's names of inverse functions, in the short form. */
const INVERSE: Readonly<Record<string, string>> = {
  arcsin: 'asin',
  arccos: 'acos',
  arctan: 'atan',
  arccsc: 'acsc',
  arcsec: 'asec',
  arccot: 'acot',
  arsinh: 'asinh',
  arcosh: 'acosh',
  artanh: 'atanh',
};
const TRIGONOMETRIC = new Set('sin cos tan csc sec cot sinh cosh tanh'.split(' '));
/** Factors that follow each other; an x between numbers is a sign of multiplication. */
export function productOf(factors: readonly Expression[]): Expression {
  if (factors.length > 1 && factors.some(({ kind }) => kind === 'other')) return other('unsupported');
  const hasSymbol = (one: Expression) => [...partsOf(one)].some(({ kind }) => kind === 'symbol');
  const kept = factors.filter((factor, i) => {
    const isX = factor.kind === 'symbol' && factor.name === 'x';
    const between = i > 0 && i < factors.length - 1;
    return !(isX && between && !hasSymbol(factors[i - 1]!) && !hasSymbol(factors[i + 1]!));
  });
  return kept.reduceRight((right, left) => product(left, right));
}

/** A function of its argument, with what stands below and above its name: a base, a power or −1 for the inverse. */
export function named(
  name: string,
  argument: Expression,
  below: Expression | undefined,
  above: Expression | undefined,
): Expression {
  const inverse = above && TRIGONOMETRIC.has(name) && isMinusOne(above);
  const full = inverse ? `a${name}` : (ownValue(INVERSE, name) ?? name);
  let value: Expression;
  if (name === 'log' || name === 'ln' || name === 'lg') {
    const base = below ?? (name === 'lg' ? number(10) : undefined);
    value = base ? quotient(call('log', argument), call('log', base)) : call('log', argument);
  } else value = call(full, argument);
  return above && !inverse ? power(value, above) : value;
}

function isMinusOne(value: Expression): boolean {
  const { kind } = value;
  if (kind !== 'product' || value.left.kind !== 'number' || value.right.kind !== 'number') return false;
  return value.left.digits === '-1' && value.right.digits === '1';
}

/** The variable of a differential. */
export function differentialOf(text: string): string {
  return text.slice(1).trimStart().replace(/^\\/, '');
}

/** A subscript in the name of a symbol. */
export function written(value: Expression): string {
  if (value.kind === 'number') return value.digits;
  return value.kind === 'symbol' ? value.name : JSON.stringify(value);
}
