/** Text on its way to tokens: batches of it for the tokenizer, and a store that grows. */

/** Text that goes through the tokenizer together: all cores have something to do, and few tokens come too many. */
const BATCH_CHARACTERS = 2 ** 20;

/** Texts in batches, of which the next is read when it is asked for. */
export async function* textBatches<Text extends { text: string }>(
  texts: Iterable<Text> | AsyncIterable<Text>,
): AsyncGenerator<Text[]> {
  let batch: Text[] = [];
  let characters = 0;
  for await (const one of texts) {
    batch.push(one);
    characters += one.text.length;
    if (characters < BATCH_CHARACTERS) continue;
    yield batch;
    [batch, characters] = [[], 0];
  }
  if (batch.length > 0) yield batch;
}

/** Tokens, at most so many: what comes beyond them is dropped. */
export class GrowingTokens {
  private tokens = new Int32Array(2 ** 16);
  length = 0;

  constructor(private readonly most: number) {}

  push(ids: readonly number[]): void {
    const end = Math.min(this.length + ids.length, this.most);
    if (end > this.tokens.length) {
      const larger = new Int32Array(Math.max(end, 2 * this.tokens.length));
      larger.set(this.tokens);
      this.tokens = larger;
    }
    this.tokens.set(end - this.length < ids.length ? ids.slice(0, end - this.length) : ids, this.length);
    this.length = end;
  }

  all(): Int32Array {
    return this.tokens.subarray(0, this.length);
  }
}
