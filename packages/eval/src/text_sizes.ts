/** Words and bytes of a text that comes in pieces. */
import { countWords } from './scoring.js';

export interface TextSizes {
  words: number;
  bytes: number;
}

export class RunningSizes implements TextSizes {
  /** One more than the spaces between them, as lm-evaluation-harness counts: a text of nothing has one. */
  words = 1;
  bytes = 0;
  private endsInSpace = false;

  /** A space that goes on from piece to piece is one. */
  add(text: string): void {
    if (text === '') return;
    this.words += countWords(text) - 1 - (this.endsInSpace && /^\s/.test(text) ? 1 : 0);
    this.bytes += Buffer.byteLength(text);
    this.endsInSpace = /\s$/.test(text);
  }
}
