// Text from tokens as they come. A token may hold part of a UTF-8 character, and what a token's text is may depend on the
// one before (a space in front of a word, but not at the beginning), so a few tokens are decoded again each time, and a
// text that ends in the middle of a character is held back.

/** Tokens of what came before that are kept: enough that one of them has text. */
const CONTEXT_TOKENS = 16;

/** Turns tokens into text as they arrive, never half a character. */
export class StreamDecoder {
  private ids: number[];
  /** How many of `ids` have been given out as text; they stay as context for those that follow. */
  private given: number;

  /**
   * @param decode ids to text
   * @param context ids of the text that the first token goes on from, such as a prompt; their text is not given out
   */
  constructor(
    private readonly decode: (ids: number[]) => string,
    context: readonly number[] = [],
  ) {
    this.ids = context.slice(-CONTEXT_TOKENS);
    this.given = this.ids.length;
  }

  /** The text this token completes; empty while a character is unfinished. */
  push(id: number): string {
    this.ids.push(id);
    const before = this.decode(this.ids.slice(0, this.given));
    const whole = this.decode(this.ids);
    // What was given out cannot be taken back: a decoder that would change it has to wait.
    if (!whole.startsWith(before) || whole.length === before.length || whole.endsWith('\uFFFD')) return '';
    this.ids = this.ids.slice(this.given);
    this.given = this.ids.length;
    return whole.slice(before.length);
  }

  /** What is left when no more tokens come: replacement characters for a character that was never finished. */
  end(): string {
    const before = this.decode(this.ids.slice(0, this.given));
    const whole = this.decode(this.ids);
    this.ids = [];
    this.given = 0;
    return whole.slice(sharedLength(before, whole));
  }
}

function sharedLength(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return length;
}
