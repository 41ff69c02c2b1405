/**
 * LaTeX as sympy reads it (`parse_latex` of sympy 1.14 with its ANTLR grammar), peculiarities among them: the longest
 * beginning that is an expression counts and the rest does not, letters multiply, a letter before a parenthesis is a
 * function, e, i and \pi are symbols like any other.
 */
import {
  call,
  type Expression,
  negative,
  number,
  other,
  partsOf,
  power,
  product,
  quotient,
  sum,
  symbol,
} from './expression.js';
import { LatexError, LatexTokens, type Token } from './latex_tokens.js';

const FUNCTIONS = new Set(
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
const OPENING: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}', '\\{': '\\}' };

/** @throws LatexError where no beginning of the text is an expression */
export function parseLatex(text: string): Expression {
  try {
    return new LatexParser(new LatexTokens(text)).relation();
  } catch (error) {
    if (error instanceof Unsupported) return other('unsupported');
    throw error;
  }
}

/** An integral, sum, limit or the like, of which sympy makes something and this program nothing. */
class Unsupported extends Error {}

class LatexParser {
  /** Depth of |…|, inside of which a bar ends the group. */
  private bars = 0;

  constructor(private readonly tokens: LatexTokens) {}

  relation(): Expression {
    const left = this.expression();
    if (this.tokens.peek().type !== 'relation') return left;
    this.tokens.take();
    this.relation();
    return other('relation');
  }

  private expression(): Expression {
    let value = this.product(true);
    for (let sign = this.takeAny('+', '-'); sign; sign = this.takeAny('+', '-')) {
      const right = this.product(true);
      value = sum(value, sign === '-' ? negative(right) : right);
    }
    return value;
  }

  /** @param functions whether factors after the first may be functions: the argument of one ends before the next */
  private product(functions: boolean): Expression {
    let value = this.unary(functions);
    for (let sign = this.takeTimes(); sign; sign = this.takeTimes()) {
      const right = this.unary(functions);
      value = sign === 'times' ? product(value, right) : quotient(value, right);
    }
    return value;
  }

  private takeTimes(): 'times' | 'divided' | undefined {
    const { type, text } = this.tokens.peek();
    const times = (type === 'sign' && text === '*') || (type === 'command' && (text === 'times' || text === 'cdot'));
    const divided = (type === 'sign' && (text === '/' || text === ':')) || (type === 'command' && text === 'div');
    if (!times && !divided) return undefined;
    this.tokens.take();
    return times ? 'times' : 'divided';
  }

  private unary(functions: boolean): Expression {
    const sign = this.takeAny('+', '-');
    if (sign) return sign === '-' ? negative(this.unary(functions)) : this.unary(functions);
    const factors = [this.postfix()];
    while (this.beginsFactor(functions)) factors.push(this.postfix());
    return productOf(factors);
  }

  private beginsFactor(functions: boolean): boolean {
    const { type, text } = this.tokens.peek();
    if (type === 'letter' || type === 'digit' || type === 'symbol' || type === 'differential') return true;
    if (type === 'sign') return text in OPENING || text === '\\left|' || (text === '|' && this.bars === 0);
    if (type !== 'command') return false;
    if (['frac', 'dfrac', 'tfrac', 'binom', 'dbinom', 'tbinom', 'mathit', 'lfloor', 'lceil', 'langle'].includes(text))
      return true;
    return functions && (FUNCTIONS.has(text) || ['sqrt', 'overline', 'int', 'sum', 'prod', 'lim'].includes(text));
  }

  private postfix(): Expression {
    let value = this.power();
    while (this.takeAny('!')) value = call('factorial', value);
    const [bar, after] = [
      this.tokens.peek(),
      this.bars === 0 && this.tokens.peek().text === '|' && this.tokens.peek(1),
    ];
    if (bar.type === 'sign' && after && (after.text === '_' || after.text === '^')) throw new Unsupported();
    return value;
  }

  private power(): Expression {
    let value = this.component();
    while (this.takeAny('^')) {
      value = power(value, this.script());
      if (this.peekIs('_')) this.subscript();
    }
    return value;
  }

  /** What stands after ^ or _: an atom, or an expression in braces. */
  private script(): Expression {
    return this.peekIs('{') ? this.braces() : this.atom();
  }

  private subscript(): Expression {
    this.need('_');
    return this.script();
  }

  private component(): Expression {
    const { type, text } = this.tokens.peek();
    if (type === 'sign' && text in OPENING) return this.between(text, OPENING[text]!);
    if (type === 'sign' && text === '|') {
      this.need('|');
      this.bars++;
      const inside = this.expression();
      this.bars--;
      this.need('|');
      return call('abs', inside);
    }
    if (type === 'command') return this.command();
    if (type === 'letter' || type === 'symbol') return this.letter();
    return this.atom();
  }

  private between(open: string, close: string): Expression {
    const { bars } = this;
    this.bars = 0;
    this.need(open);
    const inside = this.expression();
    this.need(close);
    this.bars = bars;
    return inside;
  }

  private braces(): Expression {
    return this.between('{', '}');
  }

  private command(): Expression {
    const { text } = this.tokens.peek();
    if (FUNCTIONS.has(text)) return this.functionCall();
    switch (text) {
      case 'sqrt': {
        this.tokens.take();
        const root = this.peekIs('[') ? this.between('[', ']') : number(2);
        return power(this.braces(), power(root, number(-1)));
      }
      case 'overline':
        this.tokens.take();
        return call('conjugate', this.braces());
      case 'lfloor':
      case 'lceil': {
        this.tokens.take();
        const inside = this.expression();
        this.needCommand(text === 'lfloor' ? 'rfloor' : 'rceil');
        return call(text === 'lfloor' ? 'floor' : 'ceiling', inside);
      }
      case 'int':
      case 'sum':
      case 'prod':
      case 'lim':
      case 'langle':
        throw new Unsupported();
      default:
        return this.atom();
    }
  }

  private functionCall(): Expression {
    const name = this.tokens.take().text;
    let below: Expression | undefined;
    let above: Expression | undefined;
    for (;;) {
      if (this.peekIs('_') && !below) below = this.subscript();
      else if (this.peekIs('^') && !above) {
        this.need('^');
        above = this.script();
      } else break;
    }
    const argument = this.peekIs('(') ? this.parenthesised()[0]! : this.product(false);
    return named(name, argument, below, above);
  }

  private parenthesised(): Expression[] {
    const { bars } = this;
    this.bars = 0;
    this.need('(');
    const all = [this.expression()];
    while (this.takeAny(',')) all.push(this.expression());
    this.need(')');
    this.bars = bars;
    return all;
  }

  /** A letter with arguments in parentheses, or by itself. */
  private letter(): Expression {
    const name = this.name();
    return this.peekIs('(') ? { kind: 'application', name, arguments: this.parenthesised() } : symbol(name);
  }

  /** A letter or symbol with a subscript and quotes. */
  private name(): string {
    const token = this.tokens.take();
    let quotes = this.takeQuotes();
    const below = this.peekIs('_') ? `_{${written(this.subscript())}}` : '';
    quotes += quotes === '' ? this.takeQuotes() : '';
    return token.text + below + (token.type === 'letter' ? quotes : '');
  }

  private takeQuotes(): string {
    return this.tokens.peek().type === 'quotes' ? this.tokens.take().text : '';
  }

  private atom(): Expression {
    const { type, text } = this.tokens.peek();
    if (type === 'letter' || type === 'symbol') return symbol(this.name());
    if (type === 'digit') return this.number();
    if (type === 'differential') {
      this.tokens.take();
      return symbol(`d${differentialOf(text)}`);
    }
    if (type === 'command') {
      if (text === 'frac' || text === 'dfrac' || text === 'tfrac') return this.fraction();
      if (text === 'binom' || text === 'dbinom' || text === 'tbinom') {
        this.tokens.take();
        return call('binomial', this.braces(), this.braces());
      }
      if (text === 'mathit') return this.italic();
      if (text === 'langle') throw new Unsupported();
    }
    if (type === 'sign' && (text === '|' || text === '\\left|')) throw new Unsupported();
    throw this.unexpected(this.tokens.peek());
  }

  private number(): Expression {
    let digits = this.digits();
    while (this.peekIs(',') && [1, 2, 3].every((ahead) => this.tokens.peek(ahead).type === 'digit')) {
      this.tokens.take();
      for (let i = 0; i < 3; i++) digits += this.tokens.take().text;
    }
    if (this.takeAny('.')) digits += `.${this.digits()}`;
    return number(digits);
  }

  private digits(): string {
    let digits = '';
    while (this.tokens.peek().type === 'digit') digits += this.tokens.take().text;
    if (digits === '') throw this.unexpected(this.tokens.peek());
    return digits;
  }

  private italic(): Expression {
    this.tokens.take();
    this.need('{');
    let text = '';
    while (this.tokens.peek().type === 'letter') text += this.tokens.take().text;
    this.need('}');
    return symbol(text);
  }

  private fraction(): Expression {
    this.tokens.take();
    const part = () => {
      if (this.tokens.peek().type === 'digit') return { first: undefined, value: number(this.tokens.take().text) };
      const first = this.tokens.peek(1);
      const only = this.tokens.peek(2).text === '}';
      return { first, only, value: this.braces() };
    };
    const upper = part();
    const lower = part();
    const byDifferential = lower.first?.type === 'differential' && lower.only;
    const byPartial = lower.first?.text === 'partial';
    if ((byDifferential && upper.first?.text.startsWith('d')) || (byPartial && upper.first?.text === 'partial')) {
      return other('derivative');
    }
    return quotient(upper.value, lower.value);
  }

  private peekIs(sign: string): boolean {
    const { type, text } = this.tokens.peek();
    return type === 'sign' && text === sign;
  }

  private takeAny(...signs: string[]): string | undefined {
    return signs.some((sign) => this.peekIs(sign)) ? this.tokens.take().text : undefined;
  }

  private need(sign: string): void {
    if (!this.takeAny(sign)) throw this.unexpected(this.tokens.peek());
  }

  private needCommand(name: string): void {
    const token = this.tokens.take();
    if (token.type !== 'command' || token.text !== name) throw this.unexpected(token);
  }

  private unexpected({ text }: Token): LatexError {
    return new LatexError(text === '' ? 'the expression is cut short' : `'${text}' is out of place`);
  }
}

/** Factors that follow each other; an x between numbers is a sign of multiplication. */
function productOf(factors: readonly Expression[]): Expression {
  if (factors.length > 1 && factors.some(({ kind }) => kind === 'other')) return other('unsupported');
  const hasSymbol = (one: Expression) => [...partsOf(one)].some(({ kind }) => kind === 'symbol');
  const kept = factors.filter((factor, i) => {
    const isX = factor.kind === 'symbol' && factor.name === 'x';
    const between = i > 0 && i < factors.length - 1;
    return !(isX && between && !hasSymbol(factors[i - 1]!) && !hasSymbol(factors[i + 1]!));
  });
  return kept.reduceRight((right, left) => product(left, right));
}

function named(
  name: string,
  argument: Expression,
  below: Expression | undefined,
  above: Expression | undefined,
): Expression {
  const inverse = above && TRIGONOMETRIC.has(name) && isMinusOne(above);
  const full = inverse ? `a${name}` : (INVERSE[name] ?? name);
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

function differentialOf(text: string): string {
  return text.slice(1).trimStart().replace(/^\\/, '');
}

/** A subscript in the name of a symbol. */
function written(value: Expression): string {
  if (value.kind === 'number') return value.digits;
  return value.kind === 'symbol' ? value.name : JSON.stringify(value);
}
