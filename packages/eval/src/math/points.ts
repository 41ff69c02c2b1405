/** The complex points at which two expressions are compared. */
import { createHash } from 'node:crypto';
import { type Complex, complex, isFiniteNumber, magnitude } from './complex.js';
import { directPartsOf, type Expression, partsOf } from './expression.js';

/** Values for all names of an expression. */
export interface Point {
  number: number;
  /** Both parts of a value lie between one half and three halves of it. */
  scale: number;
}

/** Points with values about 1. */
const NEAR = 6;
/** From one scale to the next. */
const STEP = 8;
/** No scale is larger, nor is any smaller than its inverse. */
const LARGEST_SCALE = 1e12;

/** Signs of both parts: a root of a square, say, is its root on one side of the plane only. */
const QUADRANTS = [
  [1, 1],
  [-1, 1],
  [-1, -1],
  [1, -1],
] as const;

/** Functions that are one and the same analytic function all over the plane, but for poles. */
const WHOLE = new Set('exp sin cos tan csc sec cot sinh cosh tanh factorial binomial'.split(' '));

/**
 * Where both expressions are analytic but for poles, some points in general position tell them apart. Roots, logarithms and
 * absolute values of names are different functions in different parts of the plane, √(x+7)² = x+7 where the real part of x is above
 * −7: these are compared in all quadrants and on all scales that their numbers reach, but for two that are written alike.
 *
 * @param constantValue the value of an expression without names; undefined where it has none
 * @returns undefined where scales would have to be larger than can be computed with
 */
export function pointsFor(
  expressions: readonly Expression[],
  constantValue: (constant: Expression) => Complex | undefined,
): Point[] | undefined {
  const points: Point[] = Array.from({ length: NEAR }, (_, number) => ({ number, scale: 1 }));
  const alike = new Set(expressions.map((one) => JSON.stringify(one))).size === 1;
  if (alike || !expressions.some((one) => hasBranches(one, constantValue))) return points;
  const reaches = expressions.map((expression) =>
    [...constantsOf(expression)].reduce((size, one) => size * sizeOf(constantValue(one)), STEP ** 2),
  );
  const reach = Math.max(...reaches);
  if (!(reach <= LARGEST_SCALE)) return undefined;
  for (let scale = STEP; scale <= reach; scale *= STEP) {
    for (const one of [scale, 1 / scale]) {
      for (const _ of QUADRANTS) points.push({ number: points.length, scale: one });
    }
  }
  return points;
}

/** How many times larger or smaller than 1. */
function sizeOf(value: Complex | undefined): number {
  if (!value || !isFiniteNumber(value)) return 1;
  const size = magnitude(value).toNumber();
  return size === 0 ? 1 : Math.max(size, 1 / size);
}

function hasNames(expression: Expression): boolean {
  return [...partsOf(expression)].some(({ kind }) => kind === 'symbol' || kind === 'application');
}

function hasBranches(expression: Expression, constantValue: (constant: Expression) => Complex | undefined): boolean {
  return [...partsOf(expression)].some((part) => {
    if (part.kind === 'function') return !WHOLE.has(part.name) && part.arguments.some(hasNames);
    if (part.kind !== 'power' || !hasNames(part.base)) return false;
    const exponent = hasNames(part.exponent) ? undefined : constantValue(part.exponent);
    return !(exponent?.im.isZero() && exponent.re.isInteger());
  });
}

/** The largest parts without names, exponents left out. */
function* constantsOf(expression: Expression): Generator<Expression> {
  if (!hasNames(expression)) {
    yield expression;
    return;
  }
  const parts = expression.kind === 'power' ? [expression.base] : directPartsOf(expression);
  for (const part of parts) yield* constantsOf(part);
}

/**
 * The value of a name at a point, in general position and the same for the same name. All names go through the four quadrants
 * together at every other scale; else each is in one of its own.
 */
export function valueAt(name: string, { number, scale }: Point): Complex {
  const digest = createHash('sha256').update(`${number}:${name}`).digest();
  const together = scale === 1 ? number < QUADRANTS.length : Math.round(Math.log(scale) / Math.log(STEP)) % 2 !== 0;
  const quadrant = scale === 1 ? number : (number - NEAR) % QUADRANTS.length;
  const [re, im] = QUADRANTS[together ? quadrant : digest[30]! % QUADRANTS.length]!;
  const part = (begin: number, sign: number) => {
    const share = BigInt(`0x${digest.subarray(begin, begin + 15).toString('hex')}`);
    return complex(share.toString())
      .re.div((2n ** 120n).toString())
      .plus(0.5)
      .times(sign * scale);
  };
  return complex(part(0, re), part(15, im));
}
