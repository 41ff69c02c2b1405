// Byte-pair encoding, learned (Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units",
// algorithm 1, with counts kept up to date instead of taken anew). The most frequent pair is merged first, of equals the
// one with the lower ids, as in the `tokenizers` package, whose own trainer reads files line by line and never sees a word
// that holds a line feed.

/** How often each word occurs. */
export type WordCounts = Map<string, number>;

/** GPT-2's pattern for words, as in the ByteLevel pre-tokenizer, with Unicode's spaces in place of JavaScript's `\\s`. */
const WORD =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** Longer ones (rules of dashes, runs of spaces) are cut: merging takes time by the square of a word's length. */
const LONGEST_WORD = 256;

export function countWords(text: string, counts: WordCounts): void {
  for (const [word] of text.matchAll(WORD)) {
    for (let at = 0; at < word.length; at += LONGEST_WORD) add(counts, word.slice(at, at + LONGEST_WORD));
  }
}

function add(counts: WordCounts, word: string): void {
  const count = counts.get(word);
  // A part of a string keeps the whole in memory; a word that stays is copied out of it.
  counts.set(count === undefined ? Buffer.from(word).toString() : word, (count ?? 0) + 1);
}

/**
 * Learns merges until the vocabulary has `vocabSize` tokens or no pair is left.
 * @param tokens the vocabulary to begin with, by id; new tokens are appended
 * @param encode the ids of a word by that vocabulary
 * @returns the new merges, in order
 */
export function learnMerges(
  counts: WordCounts,
  tokens: string[],
  encode: (word: string) => number[],
  vocabSize: number,
): [string, string][] {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const pairs = new PairTable();
  for (const [word, count] of counts) pairs.addWord(encode(word), count);
  const merges: [string, string][] = [];
  while (tokens.length < vocabSize) {
    const pair = pairs.takeBest();
    if (!pair) break;
    const [left, right] = [tokens[pair[0]]!, tokens[pair[1]]!];
    let id = ids.get(left + right);
    if (id === undefined) {
      id = tokens.push(left + right) - 1;
      ids.set(left + right, id);
    }
    pairs.merge(pair, id);
    merges.push([left, right]);
  }
  return merges;
}

type Pair = readonly [number, number];

/** Vocabularies stay far below 2^24, so that a pair is one exact number, ordered as its ids are. */
const SHIFT = 2 ** 24;
const keyOf = (left: number, right: number) => left * SHIFT + right;

/** All words as ids, the count of every pair of neighbours in them, and which words a pair occurs in. */
class PairTable {
  private readonly words: number[][] = [];
  private readonly wordCounts: number[] = [];
  private readonly counts = new Map<number, number>();
  private readonly places = new Map<number, Set<number>>();
  private readonly heap = new PairHeap();
  private started = false;

  addWord(ids: number[], count: number): void {
    const word = this.words.push(ids) - 1;
    this.wordCounts.push(count);
    for (let i = 0; i + 1 < ids.length; i++) this.change(ids[i]!, ids[i + 1]!, count, word);
  }

  /** The most frequent pair. Counts in the heap may be out of date; those met on top are put right. */
  takeBest(): Pair | undefined {
    if (!this.started) for (const [key, count] of this.counts) this.heap.push(key, count);
    this.started = true;
    for (let top = this.heap.pop(); top; top = this.heap.pop()) {
      const count = this.counts.get(top.key) ?? 0;
      if (count < 1) continue;
      if (count === top.count) return [Math.floor(top.key / SHIFT), top.key % SHIFT];
      this.heap.push(top.key, count);
    }
    return undefined;
  }

  /** Replaces a pair by one token in every word, from left to right. */
  merge([left, right]: Pair, id: number): void {
    const touched = new Set<number>();
    for (const word of this.places.get(keyOf(left, right)) ?? []) {
      const ids = this.words[word]!;
      const count = this.wordCounts[word]!;
      for (let i = 0; i + 1 < ids.length; i++) {
        if (ids[i] !== left || ids[i + 1] !== right) continue;
        if (i > 0) {
          this.change(ids[i - 1]!, left, -count, word);
          touched.add(this.change(ids[i - 1]!, id, count, word));
        }
        if (i + 2 < ids.length) {
          this.change(right, ids[i + 2]!, -count, word);
          touched.add(this.change(id, ids[i + 2]!, count, word));
        }
        ids.splice(i, 2, id);
      }
    }
    this.counts.delete(keyOf(left, right));
    this.places.delete(keyOf(left, right));
    for (const key of touched) this.heap.push(key, this.counts.get(key) ?? 0);
  }

  private change(left: number, right: number, by: number, word: number): number {
    const key = keyOf(left, right);
    this.counts.set(key, (this.counts.get(key) ?? 0) + by);
    if (by > 0) {
      const places = this.places.get(key);
      if (places) places.add(word);
      else this.places.set(key, new Set([word]));
    }
    return key;
  }
}

/** A binary heap: the highest count on top, of equals the lowest pair. */
class PairHeap {
  private readonly items: { key: number; count: number }[] = [];

  push(key: number, count: number): void {
    const { items } = this;
    const item = { key, count };
    let at = items.push(item) - 1;
    for (let parent = (at - 1) >> 1; at > 0 && before(item, items[parent]!); parent = (at - 1) >> 1) {
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  pop(): { key: number; count: number } | undefined {
    const { items } = this;
    const top = items[0];
    const last = items.pop();
    if (!last || items.length === 0) return top;
    let at = 0;
    for (let child = 1; child < items.length; child = 2 * at + 1) {
      if (child + 1 < items.length && before(items[child + 1]!, items[child]!)) child++;
      if (!before(items[child]!, last)) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = last;
    return top;
  }
}

function before(a: { key: number; count: number }, b: { key: number; count: number }): boolean {
  return a.count !== b.count ? a.count > b.count : a.key < b.key;
}
