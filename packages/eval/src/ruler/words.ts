/** Words of the wonderwords package: pairs of an adjective and a noun in order, without building all six million. */

/** Texts by index. */
export interface IndexedWords {
  readonly length: number;
  at(index: number): string;
}

const byCodePoint = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

/** All `adjective-noun`, each once, sorted. */
export function pairsInOrder(adjectives: readonly string[], nouns: readonly string[]): IndexedWords {
  const sortedNouns = [...new Set(nouns)].sort(byCodePoint);
  const prefixes = [...new Set(adjectives)].map((adjective) => `${adjective}-`).sort(byCodePoint);
  const blocks: { begin: number; length: number; at(index: number): string }[] = [];
  let total = 0;
  for (let first = 0; first < prefixes.length; ) {
    let end = first + 1;
    // One that goes on from another ("well-", "well-off-") has its pairs among those of the other.
    while (end < prefixes.length && prefixes[end]!.startsWith(prefixes[first]!)) end++;
    const group = prefixes.slice(first, end);
    const pairs = group.length === 1 ? undefined : allPairs(group, sortedNouns);
    const length = pairs?.length ?? sortedNouns.length;
    blocks.push({ begin: total, length, at: (index) => pairs?.[index] ?? group[0]! + sortedNouns[index]! });
    total += length;
    first = end;
  }
  return {
    length: total,
    at: (index) => {
      let [low, high] = [0, blocks.length - 1];
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (blocks[middle]!.begin <= index) low = middle;
        else high = middle - 1;
      }
      return blocks[low]!.at(index - blocks[low]!.begin);
    },
  };
}

function allPairs(prefixes: readonly string[], nouns: readonly string[]): string[] {
  return [...new Set(prefixes.flatMap((prefix) => nouns.map((noun) => prefix + noun)))].sort(byCodePoint);
}

/** Words of several lists, each once, sorted. */
export function wordsInOrder(...lists: readonly (readonly string[])[]): string[] {
  return [...new Set(lists.flat())].sort(byCodePoint);
}
