/** Ends a growing text before the first stop text: what may be the beginning of one is held back until it is not. */
export class StopTexts {
  private held = '';
  private readonly texts: readonly string[];
  /** Whether one of the texts has come; nothing is given out from then on. */
  met = false;

  constructor(texts: readonly string[]) {
    this.texts = texts.filter((text) => text !== '');
  }

  /** Adds a piece; returns what can be written by now. */
  push(piece: string): string {
    if (this.met) return '';
    const text = this.held + piece;
    const first = firstComplete(text, this.texts);
    this.met = first !== undefined;
    const ready = first ?? text.length - this.unsure(text);
    this.held = this.met ? '' : text.slice(ready);
    return text.slice(0, ready);
  }

  /** What was held back, when no more comes. */
  rest(): string {
    return this.held;
  }

  /** Length of the longest end of `text` that a stop text begins with. */
  private unsure(text: string): number {
    const longest = Math.max(0, ...this.texts.map((stop) => stop.length - 1));
    for (let length = Math.min(longest, text.length); length > 0; length--) {
      const end = text.slice(text.length - length);
      if (this.texts.some((stop) => stop.startsWith(end))) return length;
    }
    return 0;
  }
}

/** Where the text begins that is complete first, and of those the longest: cutting into pieces changes nothing. */
function firstComplete(text: string, texts: readonly string[]): number | undefined {
  const found = texts
    .map((stop) => ({ begin: text.indexOf(stop), length: stop.length }))
    .filter(({ begin }) => begin >= 0)
    .sort((a, b) => a.begin + a.length - (b.begin + b.length) || a.begin - b.begin);
  return found[0]?.begin;
}
