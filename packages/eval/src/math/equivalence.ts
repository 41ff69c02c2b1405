/**
 * Whether two answers are the same number or expression, as sympy's `simplify(a - b) == 0` would find: both are read with
 * sympy's grammar, and their difference is computed with 80 digits at six complex points. Where it vanishes at all of
 * them to 50 digits, it is zero; where that cannot be told, the answer is "undecided", never "equal".
 */
import { createHash } from 'node:crypto';
import { ownValue } from '@stickbreaking/base';
import {
  add,
  type Complex,
  complex,
  divide,
  functions,
  isFiniteNumber,
  magnitude,
  multiply,
  pow,
  scale,
  subtract,
} from './complex.js';
import { type Expression, other } from './expression.js';
import { parseLatex } from './latex.js';
import { LatexError } from './latex_tokens.js';

/** `unreadable`: one of them is no expression, or a comparison, which sympy does not subtract. */
export type Equivalence = 'equal' | 'different' | 'unreadable' | 'undecided';

/** Points at which expressions are compared. */
const POINTS = 6;
/** A difference below this share of the values is none, above `APART` it is one. */
const TOGETHER = 1e-50;
const APART = 1e-30;
/** Larger exponents and factorials are not computed. */
const LARGEST = 100_000;

/** Compares two answers in LaTeX. */
export function compareLatex(a: string, b: string): Equivalence {
  const [left, right] = [parsed(a), parsed(b)];
  if (!left || !right) return 'unreadable';
  const what = [left, right].flatMap((one) => (one.kind === 'other' ? [one.what] : []));
  if (what.includes('relation')) return 'unreadable';
  try {
    const results = Array.from({ length: POINTS }, (_, point) => compareAt(left, right, point));
    if (results.includes('different')) return 'different';
    return results.includes('undecided') ? 'undecided' : 'equal';
  } catch (error) {
    if (error instanceof Undecided) return 'undecided';
    throw error;
  }
}

function parsed(text: string): Expression | undefined {
  try {
    return parseLatex(text);
  } catch (error) {
    if (error instanceof LatexError) return undefined;
    // Thousands of brackets in each other are more than a call stack holds.
    if (error instanceof RangeError) return other('unsupported');
    throw error;
  }
}

class Undecided extends Error {}

function compareAt(a: Expression, b: Expression, point: number): Exclude<Equivalence, 'unreadable'> {
  const [left, right] = [evaluate(a, point), evaluate(b, point)];
  if (!isFiniteNumber(left) || !isFiniteNumber(right)) return 'undecided';
  const size = magnitude(left).plus(magnitude(right)).plus(1);
  const apart = magnitude(subtract(left, right)).div(size);
  if (apart.lt(TOGETHER)) return 'equal';
  return apart.gt(APART) ? 'different' : 'undecided';
}

function evaluate(expression: Expression, point: number): Complex {
  switch (expression.kind) {
    case 'number':
      return complex(expression.digits);
    case 'symbol':
      return pointOf(expression.name, point);
    case 'sum':
      return add(evaluate(expression.left, point), evaluate(expression.right, point));
    case 'product':
      return multiply(evaluate(expression.left, point), evaluate(expression.right, point));
    case 'power': {
      const exponent = evaluate(expression.exponent, point);
      if (magnitude(exponent).gt(LARGEST)) throw new Undecided();
      return pow(evaluate(expression.base, point), exponent);
    }
    case 'function':
      return functionValue(
        expression.name,
        expression.arguments.map((one) => evaluate(one, point)),
      );
    case 'application': {
      // A function of no meaning: the same value for the same arguments, as far as they are told apart.
      const digits = expression.arguments
        .map((one) => evaluate(one, point))
        .map(({ re, im }) => `${re.toSD(40)},${im.toSD(40)}`);
      return pointOf(`${expression.name}(${digits.join(';')})`, point);
    }
    case 'other':
      throw new Undecided();
  }
}

function functionValue(name: string, values: readonly Complex[]): Complex {
  const [first, second] = values as [Complex, Complex];
  if (name === 'factorial') return factorial(first);
  if (name === 'binomial') return binomial(first, second);
  const found = ownValue(functions, name);
  if (!found) throw new Undecided();
  return found(first);
}

/** Of whole numbers from 0 on. */
function factorial(value: Complex): Complex {
  const whole = wholeNumber(value);
  let result = complex(1);
  for (let i = 2; i <= whole; i++) result = scale(result, i);
  return result;
}

/** Of a whole number below. */
function binomial(n: Complex, k: Complex): Complex {
  const below = wholeNumber(k);
  let result = complex(1);
  for (let i = 0; i < below; i++) result = divide(multiply(result, subtract(n, complex(i))), complex(i + 1));
  return result;
}

function wholeNumber({ re, im }: Complex): number {
  if (!im.isZero() || !re.isInteger() || re.isNegative() || re.gt(LARGEST)) throw new Undecided();
  return re.toNumber();
}

/** Signs of both parts: a root of a square, say, is its root on one side of the plane only. */
const QUADRANTS = [
  [1, 1],
  [-1, 1],
  [-1, -1],
  [1, -1],
] as const;

/**
 * A point in general position, the same for the same name: both parts between 1/2 and 3/2. All names go through the four
 * quadrants together, and then each through one of its own.
 */
function pointOf(name: string, point: number): Complex {
  const digest = createHash('sha256').update(`${point}:${name}`).digest();
  const [re, im] = QUADRANTS[point < QUADRANTS.length ? point : digest[30]! % QUADRANTS.length]!;
  const part = (begin: number, sign: number) => {
    const share = BigInt(`0x${digest.subarray(begin, begin + 15).toString('hex')}`);
    return complex(share.toString())
      .re.div((2n ** 120n).toString())
      .plus(0.5)
      .times(sign);
  };
  return complex(part(0, re), part(15, im));
}
