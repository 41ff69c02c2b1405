// Long documents are encoded piece by piece. A tokenizer treats the beginning of a text in its own way (a space put in
// front), so a piece that goes on is encoded behind the word before it, whose tokens are then taken off again.
import type { Tokenizer } from './tokenizer.js';

/** Of the text before a piece, as much as is needed to have a word's beginning in it. */
const TAIL_CHARACTERS = 64;

/** Encodes documents piece by piece, to the same tokens as in one go. */
export class PieceEncoder {
  /** The end of the piece before, in the same document. */
  private tail = '';

  constructor(private readonly tokenizer: Pick<Tokenizer, 'encodeBatch'>) {}

  /** Ids of the next pieces. Together, those of a document are what the whole document's would be. */
  async encode(pieces: readonly { text: string; last: boolean }[]): Promise<number[][]> {
    const tails = pieces.map(({ text, last }) => {
      const tail = this.tail;
      this.tail = last ? '' : tailOf(tail + text);
      return tail;
    });
    const continued = tails.filter((tail) => tail !== '');
    const ids = await this.tokenizer.encodeBatch([...pieces.map(({ text }, i) => tails[i]! + text), ...continued]);
    const tailIds = ids.slice(pieces.length);
    return Promise.all(
      ids.slice(0, pieces.length).map(async (all, i) => {
        if (tails[i] === '') return all;
        const before = tailIds.shift()!;
        if (before.every((id, at) => all[at] === id)) return all.slice(before.length);
        // The two grow together: no cut gives the whole's tokens, and the piece stands for itself.
        const [alone] = await this.tokenizer.encodeBatch([pieces[i]!.text]);
        return alone!;
      }),
    );
  }
}

/** The end of a text, from the beginning of a word on if there is one. */
function tailOf(text: string): string {
  const end = text.slice(-TAIL_CHARACTERS);
  const space = end.search(/\s\S/);
  return space < 0 ? end.replace(/^[\udc00-\udfff]/, '') : end.slice(space + 1);
}
