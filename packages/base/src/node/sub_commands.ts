/** Commands of a command, such as `train` of `sb-tokenizer`: where one stands in a line, and which was meant. */
import { distance } from 'fastest-levenshtein';
import { beforeDashes, namesOf, type OptionKinds } from './as_typed.js';
import { nearest } from './nearest.js';

/** Where the command stands in a line, or the word that stands in its place. */
export type CommandInLine = { at: number } | { misspelt: string; meant: string | undefined };

/**
 * Looks for the command, which may come after options: it is the first word that belongs to none, or else one that an option
 * may have taken too many.
 *
 * @param kinds the options of all commands
 * @returns undefined where there is neither one nor what may be one
 */
export function commandInLine(
  argv: readonly string[],
  commands: readonly string[],
  kinds: OptionKinds,
): CommandInLine | undefined {
  const { loose, doubtful } = sorted(beforeDashes(argv), kinds);
  const first = loose.slice(0, 1);
  const at = [...first, ...doubtful].find((i) => commands.includes(argv[i]!));
  if (at !== undefined) return { at };
  const wordsAt = (places: readonly number[]) => places.map((i) => argv[i]!);
  const near = [
    ...wordsAt(first).map((word) => ({ misspelt: word, meant: nearest(word.toLowerCase(), commands) })),
    // A file may well have a name that is not far from a command's.
    ...wordsAt(doubtful).map((word) => ({ misspelt: word, meant: commands.find((name) => distance(name, word) <= 2) })),
  ];
  return near.find(({ meant }) => meant !== undefined) ?? near.slice(0, first.length)[0];
}

/** The places of words that belong to no option, and of those that may not: what a list or an unknown option takes. */
function sorted(words: readonly string[], kinds: OptionKinds): { loose: number[]; doubtful: number[] } {
  const { all, text, numbers, list } = namesOf(kinds);
  const [loose, doubtful]: [number[], number[]] = [[], []];
  for (let i = 0; i < words.length; i++) {
    const option = optionIn(words[i]!);
    if (!option) {
      loose.push(i);
      continue;
    }
    const { name, isWhole } = option;
    if (isWhole) continue;
    if (text.has(name) || numbers.has(name)) i++; // its value, whatever that looks like
    const most = list.has(name) ? Number.POSITIVE_INFINITY : all.has(name) ? 0 : 1;
    for (let taken = 0; taken < most && i + 1 < words.length && !optionIn(words[i + 1]!); taken++) doubtful.push(++i);
  }
  return { loose, doubtful };
}

/** An option's name, and whether no value can follow. */
function optionIn(word: string): { name: string; isWhole: boolean } | undefined {
  const [, no, name, equals] = /^--?(no-)?([^-=\d][^=]*)(=)?/.exec(word) ?? [];
  return name === undefined ? undefined : { name, isWhole: no !== undefined || equals !== undefined };
}

/** All options together; one that takes a value anywhere takes one. */
export function mergedKinds(kinds: readonly OptionKinds[]): OptionKinds {
  const all = (key: 'string' | 'number' | 'boolean' | 'array') => kinds.flatMap((one) => one[key]);
  const alias = Object.assign({}, ...kinds.map((one) => one.alias));
  const key = Object.assign({}, ...kinds.map((one) => one.key));
  return { string: all('string'), number: all('number'), boolean: all('boolean'), array: all('array'), alias, key };
}
