/**
 * Whether two answers are the same number or expression, as sympy's `simplify(a - b) == 0` would find: both are read with
 * sympy's grammar, and their difference is computed with 80 digits at some complex points. Where it vanishes at all of
 * them to 50 digits, it is zero; where that cannot be told, the answer is "undecided", never "equal".
 */
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
import { type Point, pointsFor, valueAt } from './points.js';

/** `unreadable`: one of them is no expression, or a comparison, which sympy does not subtract. */
export type Equivalence = 'equal' | 'different' | 'unreadable' | 'undecided';

/** A difference below this share of the values is none, above `APART` it is one. */
const TOGETHER = 1e-50;
const APART = 1e-30;
/** The error of a value in which no terms cancelled, as a share of it, at most. */
const NOISE = 1e-70;
/** Terms up to this size that leave nothing are taken to be the same. */
const EXACT = 1e6;
/** Larger exponents, factorials and angles are not computed. */
const LARGEST = 100_000;

/** Compares two answers in LaTeX, which `normaliseAnswer` has made alike. */
export function compareLatex(a: string, b: string): Equivalence {
  const [left, right] = [parsed(a), parsed(b)];
  if (!left || !right) return 'unreadable';
  const what = [left, right].flatMap((one) => (one.kind === 'other' ? [one.what] : []));
  if (what.includes('relation')) return 'unreadable';
  try {
    let undecided = false;
    const points = pointsFor([left, right], constantValue);
    for (const point of points ?? [NEAR]) {
      const found = compareAt(left, right, point);
      if (found === 'different') return found;
      undecided ||= found === 'undecided';
    }
    return undecided || !points ? 'undecided' : 'equal';
  } catch (error) {
    // Thousands of parts in each other are more than a call stack holds.
    if (error instanceof Undecided || error instanceof RangeError) return 'undecided';
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

const NEAR: Point = { number: 0, scale: 1 };

/** The value of an expression without names. */
function constantValue(expression: Expression): Complex | undefined {
  try {
    return new Evaluation(NEAR).value(expression);
  } catch (error) {
    if (error instanceof Undecided) return undefined;
    throw error;
  }
}

function compareAt(a: Expression, b: Expression, point: Point): Exclude<Equivalence, 'unreadable'> {
  const at = new Evaluation(point);
  const [left, right] = [at.value(a), at.value(b)];
  if (!isFiniteNumber(left) || !isFiniteNumber(right)) return 'undecided';
  const size = magnitude(left).plus(magnitude(right)).plus(1);
  const apart = magnitude(subtract(left, right)).div(size);
  if (apart.lt(TOGETHER)) return 'equal';
  return apart.gt(APART) && apart.gt(at.lost.times(NOISE)) ? 'different' : 'undecided';
}

/** Values at a point. */
class Evaluation {
  /** How many times larger the error is, at most, since terms cancelled. */
  lost = complex(1).re;

  constructor(private readonly point: Point) {}

  value(expression: Expression): Complex {
    switch (expression.kind) {
      case 'number':
        return complex(expression.digits);
      case 'symbol':
        return valueAt(expression.name, this.point);
      case 'sum':
        return this.sum(this.value(expression.left), this.value(expression.right));
      case 'product':
        return multiply(this.value(expression.left), this.value(expression.right));
      case 'power': {
        const exponent = this.value(expression.exponent);
        if (magnitude(exponent).gt(LARGEST)) throw new Undecided();
        return pow(this.value(expression.base), exponent);
      }
      case 'function':
        return functionValue(
          expression.name,
          expression.arguments.map((one) => this.value(one)),
        );
      case 'application': {
        // A function of no meaning: the same value for the same arguments, as far as they are told apart.
        const digits = expression.arguments
          .map((one) => this.value(one))
          .map(({ re, im }) => `${re.toSD(40)},${im.toSD(40)}`);
        return valueAt(`${expression.name}(${digits.join(';')})`, this.point);
      }
      case 'other':
        throw new Undecided();
    }
  }

  private sum(left: Complex, right: Complex): Complex {
    const sum = add(left, right);
    const [terms, size] = [sizeOf(left).plus(sizeOf(right)), sizeOf(sum)];
    if (size.isZero()) {
      if (terms.gt(EXACT)) this.lost = this.lost.div(NOISE);
    } else if (terms.gt(size.times(10))) this.lost = this.lost.times(terms).div(size);
    return sum;
  }
}

const sizeOf = ({ re, im }: Complex) => re.abs().plus(im.abs());

/** Functions of arguments as large as they may be; others grow without bounds, or have too little of an angle left. */
const OF_ANY_SIZE = new Set(['log', 'abs', 'conjugate', 'floor', 'ceiling']);

function functionValue(name: string, values: readonly Complex[]): Complex {
  const [first, second] = values as [Complex, Complex];
  if (name === 'factorial') return factorial(first);
  if (name === 'binomial') return binomial(first, second);
  const found = ownValue(functions, name);
  if (!found || (!OF_ANY_SIZE.has(name) && magnitude(first).gt(LARGEST))) throw new Undecided();
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
