// Where a text becomes documents: it is cut at end texts such as `<|endoftext|>`, and a long document into pieces.

export interface Piece {
  text: string;
  /** as its file has it, where `text` was put back into running text */
  original?: string;
  /** The document ends here. */
  last: boolean;
}

/** Characters of a piece, at most, not counting what may begin an end text. Few documents are longer. */
export const PIECE_CHARACTERS = 2 ** 20;

/**
 * Cuts text that comes bit by bit. Blank documents are left out. A piece ends where a word does, as far as there are
 * words, so that tokens seldom reach over.
 */
export class DocumentCutter {
  private held = '';
  /** Up to here no end text begins. */
  private searched = 0;
  /** A piece of the document has been given out. */
  private begun = false;
  private readonly longestEnd: number;

  constructor(
    private readonly endTexts: readonly string[],
    private readonly pieceCharacters = PIECE_CHARACTERS,
  ) {
    this.longestEnd = Math.max(0, ...endTexts.map((text) => text.length));
  }

  *push(text: string): Generator<Piece> {
    this.held += text;
    for (let end = this.nextEnd(); end; end = this.nextEnd()) {
      yield* this.finish(yield* this.shortened(this.held.slice(0, end.at)));
      this.held = this.held.slice(end.at + end.length);
      this.searched = 0;
    }
    this.searched = Math.max(0, this.held.length - this.longestEnd + 1);
    const { length } = this.held;
    this.held = yield* this.shortened(this.held);
    this.searched = Math.max(0, this.searched - (length - this.held.length));
  }

  /** The text ends, and the document with it. */
  *end(): Generator<Piece> {
    yield* this.finish(this.held);
    this.held = '';
    this.searched = 0;
  }

  /** Gives out what is long of a document. What may begin an end text stays in the rest, which it returns. */
  private *shortened(text: string): Generator<Piece, string> {
    let rest = text;
    while (rest.length > this.pieceCharacters + this.longestEnd) {
      const end = endOfWord(rest, this.pieceCharacters);
      yield { text: rest.slice(0, end), last: false };
      this.begun = true;
      rest = rest.slice(end);
    }
    return rest;
  }

  private *finish(text: string): Generator<Piece> {
    if (this.begun || text.trim() !== '') yield { text, last: true };
    this.begun = false;
  }

  private nextEnd(): { at: number; length: number } | undefined {
    let first: { at: number; length: number } | undefined;
    for (const { length, at } of this.endTexts.map((end) => ({
      length: end.length,
      at: this.held.indexOf(end, this.searched),
    }))) {
      if (at >= 0 && (!first || at < first.at)) first = { at, length };
    }
    return first;
  }
}

const LOOK_BACK = 2 ** 16;

/** Where to cut at `most` or a little before: in front of the space after a word. */
function endOfWord(text: string, most: number): number {
  for (let at = most; at > Math.max(1, most - LOOK_BACK); at--) {
    if (/\s/.test(text[at]!) && /[\p{L}\p{N}]/u.test(text[at - 1]!)) return at;
  }
  const isHalf = /[\ud800-\udbff]/.test(text[most - 1]!);
  return isHalf && most > 1 ? most - 1 : most;
}
