/**
 * Cuts LaTeX into the tokens of sympy's grammar (sympy/parsing/latex/LaTeX.g4 of sympy 1.14): the longest one at each
 * place, one at a time, so that what is never looked at is never wrong.
 */

/** Text that is no expression of the grammar. */
export class LatexError extends Error {
  override readonly name = 'LatexError';
}

export type TokenType =
  | 'letter'
  | 'digit'
  | 'symbol'
  | 'differential'
  | 'command'
  | 'relation'
  | 'quotes'
  | 'sign'
  | 'end';

export interface Token {
  type: TokenType;
  /** A command without its backslash; any other token as it stands. */
  text: string;
}

const SKIPPED =
  /^(?:[ \t\r\n]+|\\[,:;!*\-./"(=]|\\(?:thinspace|medspace|thickspace|quad|qquad|negthinspace|negmedspace|negthickspace|left|right|vrule|vcenter|vbox|vskip|vspace|hfil)(?![a-zA-Z]))/;

const COMMANDS = new Set(
  (
    'langle rangle lim int sum prod exp log lg ln sin cos tan csc sec cot arcsin arccos arctan arccsc arcsec arccot ' +
    'sinh cosh tanh arsinh arcosh artanh lfloor rfloor lceil rceil sqrt overline times cdot div frac dfrac tfrac ' +
    'binom dbinom tbinom mathit to rightarrow Rightarrow longrightarrow Longrightarrow'
  ).split(' '),
);
const RELATIONS = new Set('leq le leqq leqslant geq ge geqq geqslant neq'.split(' '));

/** Reads tokens as they are asked for. */
export class LatexTokens {
  private at = 0;
  private readonly text: string;
  private readonly read: Token[] = [];
  private next_ = 0;

  constructor(text: string) {
    this.text = text.trim();
  }

  /** The token `ahead` of the next. */
  peek(ahead = 0): Token {
    while (this.read.length <= this.next_ + ahead) this.read.push(this.cut());
    return this.read[this.next_ + ahead]!;
  }

  take(): Token {
    const token = this.peek();
    this.next_++;
    return token;
  }

  /** Whether a sign is next. */
  peekIs(sign: string): boolean {
    const { type, text } = this.peek();
    return type === 'sign' && text === sign;
  }

  /** The next token, where it is one of these signs. */
  takeAny(...signs: string[]): string | undefined {
    return signs.some((sign) => this.peekIs(sign)) ? this.take().text : undefined;
  }

  /** @throws LatexError where another token is next */
  need(sign: string): void {
    if (!this.takeAny(sign)) throw this.unexpected(this.peek());
  }

  needCommand(name: string): void {
    const token = this.take();
    if (token.type !== 'command' || token.text !== name) throw this.unexpected(token);
  }

  unexpected({ text }: Token): LatexError {
    return new LatexError(text === '' ? 'the expression is cut short' : `'${text}' is out of place`);
  }

  private cut(): Token {
    const skipped = SKIPPED.exec(this.text.slice(this.at));
    // `\left|` and `\right|` are tokens of their own.
    const bar = /^\\(?:left|right)\|/.exec(this.text.slice(this.at));
    if (bar) return this.token('sign', bar[0]);
    if (skipped) {
      this.at += skipped[0].length;
      return this.cut();
    }
    const rest = this.text.slice(this.at);
    if (rest === '') return { type: 'end', text: '' };
    const differential = /^d[ \t\r\n]*(?:[a-zA-Z]|\\[a-zA-Z]+)/.exec(rest);
    if (differential) return this.token('differential', differential[0]);
    if (/^[a-zA-Z]/.test(rest)) return this.token('letter', rest[0]!);
    if (/^[0-9]/.test(rest)) return this.token('digit', rest[0]!);
    const command = /^\\[a-zA-Z]+/.exec(rest)?.[0];
    if (command) {
      const name = command.slice(1);
      const type = RELATIONS.has(name) ? 'relation' : COMMANDS.has(name) ? 'command' : 'symbol';
      this.at += command.length;
      return { type, text: name };
    }
    const relation = /^(?:&[ \t\r\n]*=|=(?:[ \t\r\n]*&)?|[<>])/.exec(rest);
    if (relation) return this.token('relation', relation[0]);
    const quotes = /^'+/.exec(rest);
    if (quotes) return this.token('quotes', quotes[0]);
    const sign = /^(?:\\[{}]|[-+*/(){}[\]|_^:!,.])/.exec(rest);
    if (sign) return this.token('sign', sign[0]);
    throw new LatexError(`nothing begins with '${rest[0]}'`);
  }

  private token(type: TokenType, text: string): Token {
    this.at += text.length;
    return { type, text };
  }
}
