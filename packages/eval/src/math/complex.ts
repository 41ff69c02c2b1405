/** Complex numbers of many digits, on decimal.js: what expressions are compared with. All functions take principal values. */
import { Decimal as DecimalLibrary } from 'decimal.js';

/** Significant digits; comparisons need 50. */
const Decimal = DecimalLibrary.clone({ precision: 80 });
type Decimal = InstanceType<typeof Decimal>;

/** re + i·im */
export interface Complex {
  re: Decimal;
  im: Decimal;
}

const zero = new Decimal(0);
const one = new Decimal(1);
const pi = Decimal.acos(-1);

export const complex = (re: Decimal | number | string, im: Decimal | number | string = zero): Complex => ({
  re: new Decimal(re),
  im: new Decimal(im),
});
const I = complex(0, 1);
const ONE = complex(1);

export const add = (a: Complex, b: Complex): Complex => ({ re: a.re.plus(b.re), im: a.im.plus(b.im) });
export const subtract = (a: Complex, b: Complex): Complex => ({ re: a.re.minus(b.re), im: a.im.minus(b.im) });
export const multiply = (a: Complex, b: Complex): Complex => ({
  re: a.re.times(b.re).minus(a.im.times(b.im)),
  im: a.re.times(b.im).plus(a.im.times(b.re)),
});
export const scale = (a: Complex, by: Decimal | number): Complex => ({ re: a.re.times(by), im: a.im.times(by) });
export const magnitude = ({ re, im }: Complex): Decimal =>
  im.isZero() ? re.abs() : re.times(re).plus(im.times(im)).sqrt();
export const conjugate = ({ re, im }: Complex): Complex => ({ re, im: im.negated() });
export const isFiniteNumber = ({ re, im }: Complex): boolean => re.isFinite() && im.isFinite();

export function divide(a: Complex, b: Complex): Complex {
  if (b.im.isZero()) return { re: a.re.div(b.re), im: a.im.div(b.re) };
  return scale(multiply(a, conjugate(b)), one.div(b.re.times(b.re).plus(b.im.times(b.im))));
}

export function exp({ re, im }: Complex): Complex {
  const size = re.exp();
  return im.isZero() ? { re: size, im: zero } : { re: size.times(im.cos()), im: size.times(im.sin()) };
}

export function log(a: Complex): Complex {
  return { re: magnitude(a).ln(), im: angle(a) };
}

function angle({ re, im }: Complex): Decimal {
  if (im.isZero()) return re.isNegative() ? pi : zero;
  return Decimal.atan2(im, re);
}

/** Powers up to this exponent are made by multiplication, which keeps them exact where they are. */
const MOST_FACTORS = 1000;

export function pow(base: Complex, exponent: Complex): Complex {
  if (exponent.im.isZero()) {
    if (exponent.re.isZero()) return ONE;
    if (exponent.re.isInteger() && exponent.re.abs().lte(MOST_FACTORS)) return wholePower(base, exponent.re.toNumber());
    const halves = exponent.re.times(2);
    if (halves.isInteger() && halves.abs().lte(MOST_FACTORS) && !magnitude(base).isZero()) {
      return wholePower(squareRoot(base), halves.toNumber());
    }
  }
  if (magnitude(base).isZero()) return exponent.re.isPositive() ? complex(0) : complex(Number.NaN);
  return exp(multiply(exponent, log(base)));
}

/** Of a number other than 0: the root whose real part is not negative. */
function squareRoot(base: Complex): Complex {
  const root = magnitude(base).plus(base.re.abs()).div(2).sqrt();
  const other = base.im.abs().div(root.times(2));
  const [re, im] = base.re.isNegative() ? [other, root] : [root, other];
  return { re, im: base.im.lt(0) ? im.negated() : im };
}

function wholePower(base: Complex, exponent: number): Complex {
  let result = ONE;
  let square = base;
  for (let rest = Math.abs(exponent); rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result = multiply(result, square);
    square = multiply(square, square);
  }
  return exponent < 0 ? divide(ONE, result) : result;
}

const sqrt = (a: Complex) => pow(a, complex(0.5));
const sin = ({ re, im }: Complex): Complex => ({ re: re.sin().times(im.cosh()), im: re.cos().times(im.sinh()) });
const cos = ({ re, im }: Complex): Complex => ({
  re: re.cos().times(im.cosh()),
  im: re.sin().times(im.sinh()).negated(),
});
const half = (a: Complex) => scale(a, 0.5);
const sinh = (a: Complex) => half(subtract(exp(a), exp(scale(a, -1))));
const cosh = (a: Complex) => half(add(exp(a), exp(scale(a, -1))));
const asin = (a: Complex) => multiply(complex(0, -1), log(add(multiply(I, a), sqrt(subtract(ONE, multiply(a, a))))));
const acos = (a: Complex) => subtract(complex(pi.div(2)), asin(a));
const atan = (a: Complex) => {
  const turned = multiply(I, a);
  return multiply(complex(0, 0.5), subtract(log(subtract(ONE, turned)), log(add(ONE, turned))));
};
const inverse = (a: Complex) => divide(ONE, a);

/** Functions of one argument by the names that `parseLatex` gives them. */
export const functions: Readonly<Record<string, (a: Complex) => Complex>> = {
  exp,
  log,
  sin,
  cos,
  tan: (a) => divide(sin(a), cos(a)),
  csc: (a) => inverse(sin(a)),
  sec: (a) => inverse(cos(a)),
  cot: (a) => divide(cos(a), sin(a)),
  sinh,
  cosh,
  tanh: (a) => divide(sinh(a), cosh(a)),
  asin,
  acos,
  atan,
  acsc: (a) => asin(inverse(a)),
  asec: (a) => acos(inverse(a)),
  acot: (a) => atan(inverse(a)),
  asinh: (a) => log(add(a, sqrt(add(multiply(a, a), ONE)))),
  acosh: (a) => log(add(a, multiply(sqrt(add(a, ONE)), sqrt(subtract(a, ONE))))),
  atanh: (a) => half(subtract(log(add(ONE, a)), log(subtract(ONE, a)))),
  abs: (a) => complex(magnitude(a)),
  conjugate,
  floor: ({ re, im }) => ({ re: re.floor(), im: im.floor() }),
  ceiling: ({ re, im }) => ({ re: re.ceil(), im: im.ceil() }),
};
