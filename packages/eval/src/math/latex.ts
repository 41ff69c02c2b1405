/**
 * LaTeX as sympy reads it (`parse_latex` of sympy 1.14 with its ANTLR grammar), peculiarities among them: the longest
 * beginning that is an expression counts and the rest does not, letters multiply, a letter before a parenthesis is a
 * function, e, i and \pi are symbols like any other.
 */
import { call, type Expression, negative, number, other, power, product, quotient, sum, symbol } from './expression.js';
import { differentialOf, FUNCTIONS, named, productOf, written } from './latex_meaning.js';
import { LatexError, LatexTokens } from './latex_tokens.js';

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
    for (let sign = this.tokens.takeAny('+', '-'); sign; sign = this.tokens.takeAny('+', '-')) {
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
    const sign = this.tokens.takeAny('+', '-');
    if (sign) return sign === '-' ? negative(this.unary(functions)) : this.unary(functions);
    const factors = [this.postfix()];
    while (this.beginsFactor(functions)) factors.push(this.postfix());
    return productOf(factors);
  }

  private beginsFactor(functions: boolean): boolean {
    const { type, text } = this.tokens.peek();
    if (type === 'letter' || type === 'digit' || type === 'symbol' || type === 'differential') return true;
    if (type === 'sign') return Object.hasOwn(OPENING, text) || text === '\\left|' || (text === '|' && this.bars === 0);
    if (type !== 'command') return false;
    if (['frac', 'dfrac', 'tfrac', 'binom', 'dbinom', 'tbinom', 'mathit', 'lfloor', 'lceil', 'langle'].includes(text))
      return true;
    return functions && (FUNCTIONS.has(text) || ['sqrt', 'overline', 'int', 'sum', 'prod', 'lim'].includes(text));
  }

  private postfix(): Expression {
    let value = this.power();
    while (this.tokens.takeAny('!')) value = call('factorial', value);
    const [bar, after] = [
      this.tokens.peek(),
      this.bars === 0 && this.tokens.peek().text === '|' && this.tokens.peek(1),
    ];
    if (bar.type === 'sign' && after && (after.text === '_' || after.text === '^')) throw new Unsupported();
    return value;
  }

  private power(): Expression {
    let value = this.component();
    while (this.tokens.takeAny('^')) {
      value = power(value, this.script());
      if (this.tokens.peekIs('_')) this.subscript();
    }
    return value;
  }

  /** What stands after ^ or _: an atom, or an expression in braces. */
  private script(): Expression {
    return this.tokens.peekIs('{') ? this.braces() : this.atom();
  }

  private subscript(): Expression {
    this.tokens.need('_');
    return this.script();
  }

  private component(): Expression {
    const { type, text } = this.tokens.peek();
    if (type === 'sign' && Object.hasOwn(OPENING, text)) return this.between(text, OPENING[text]!);
    if (type === 'sign' && text === '|') {
      this.tokens.need('|');
      this.bars++;
      const inside = this.expression();
      this.bars--;
      this.tokens.need('|');
      return call('abs', inside);
    }
    if (type === 'command') return this.command();
    if (type === 'letter' || type === 'symbol') return this.letter();
    return this.atom();
  }

  private between(open: string, close: string): Expression {
    const { bars } = this;
    this.bars = 0;
    this.tokens.need(open);
    const inside = this.expression();
    this.tokens.need(close);
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
        const root = this.tokens.peekIs('[') ? this.between('[', ']') : number(2);
        return power(this.braces(), power(root, number(-1)));
      }
      case 'overline':
        this.tokens.take();
        return call('conjugate', this.braces());
      case 'lfloor':
      case 'lceil': {
        this.tokens.take();
        const inside = this.expression();
        this.tokens.needCommand(text === 'lfloor' ? 'rfloor' : 'rceil');
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
      if (this.tokens.peekIs('_') && !below) below = this.subscript();
      else if (this.tokens.peekIs('^') && !above) {
        this.tokens.need('^');
        above = this.script();
      } else break;
    }
    const argument = this.tokens.peekIs('(') ? this.parenthesised()[0]! : this.product(false);
    return named(name, argument, below, above);
  }

  private parenthesised(): Expression[] {
    const { bars } = this;
    this.bars = 0;
    this.tokens.need('(');
    const all = [this.expression()];
    while (this.tokens.takeAny(',')) all.push(this.expression());
    this.tokens.need(')');
    this.bars = bars;
    return all;
  }

  /** A letter with arguments in parentheses, or by itself. */
  private letter(): Expression {
    const name = this.name();
    return this.tokens.peekIs('(') ? { kind: 'application', name, arguments: this.parenthesised() } : symbol(name);
  }

  /** A letter or symbol with a subscript and quotes. */
  private name(): string {
    const token = this.tokens.take();
    let quotes = this.takeQuotes();
    const below = this.tokens.peekIs('_') ? `_{${written(this.subscript())}}` : '';
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
    throw this.tokens.unexpected(this.tokens.peek());
  }

  private number(): Expression {
    let digits = this.digits();
    while (this.tokens.peekIs(',') && [1, 2, 3].every((ahead) => this.tokens.peek(ahead).type === 'digit')) {
      this.tokens.take();
      for (let i = 0; i < 3; i++) digits += this.tokens.take().text;
    }
    if (this.tokens.takeAny('.')) {
      digits += `.${this.digits()}`;
      // Of a number before a second point, sympy leaves out the last digit.
      if (this.tokens.peekIs('.')) throw this.tokens.unexpected(this.tokens.peek());
    }
    // Digits are read once more, as Python reads them.
    else if (/^0+[1-9]/.test(digits)) throw new LatexError(`${digits}: no whole number begins with 0`);
    return number(digits);
  }

  private digits(): string {
    let digits = '';
    while (this.tokens.peek().type === 'digit') digits += this.tokens.take().text;
    if (digits === '') throw this.tokens.unexpected(this.tokens.peek());
    return digits;
  }

  private italic(): Expression {
    this.tokens.take();
    this.tokens.need('{');
    let text = '';
    while (this.tokens.peek().type === 'letter') text += this.tokens.take().text;
    this.tokens.need('}');
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
}
