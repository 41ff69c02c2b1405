// Text from tokens as they come. A token may hold part of a UTF-8 character, and some decoders look at the token
// before, so a few tokens are decoded again each time and a text that ends in the middle of a character is held back.

export class StreamDecoder {
  private ids: number[] = [];
  /** How many of `ids` have been given out as text; they stay as context for those that follow. */
  private given = 0;

  constructor(private readonly decode: (ids: number[]) => string) {}

  /** The text this token completes; empty while a character is unfinished. */
  push(id: number): string {
    this.ids.push(id);
    const text = this.pending();
    if (text.length === 0 || text.endsWith('\uFFFD')) return '';
    this.ids = this.ids.slice(this.given);
    this.given = this.ids.length;
    return text;
  }

  /** What is left when no more tokens come: replacement characters for a character that was never finished. */
  end(): string {
    const text = this.pending();
    this.ids = [];
    this.given = 0;
    return text;
  }

  private pending(): string {
    return this.decode(this.ids).slice(this.decode(this.ids.slice(0, this.given)).length);
  }
}
