/**
 * Arguments reach a command as they were typed. yargs takes quotes off a value's ends and a value that begins with a
 * dash for an option; so values of text are handed to it under a name, and put back once it has sorted them.
 */

export interface OptionKinds {
  string: string[];
  number: string[];
  boolean: string[];
  array: string[];
  alias: Record<string, string[]>;
  /** All of them, those whose kind is not said too. */
  key: Record<string, unknown>;
}

/** NUL, which no argument of a process can hold. */
const MARK = '\0';

export interface AsTyped {
  argv: string[];
  /** What stands for a text that was put away, put back; everything else as it is. */
  restore<T>(value: T): T;
}

/**
 * Puts the values of text options away. Of options that are not known here, such as those of a command within a command,
 * only what has quotes, and a dash alone, which is standard input.
 */
export function putAway(argv: readonly string[], kinds: OptionKinds): AsTyped {
  const texts: string[] = [];
  const away = (text: string) => `${MARK}${texts.push(text) - 1}`;
  const names = namesOf(kinds);
  const nameOf = (word: string) => /^--?([^=\s]+)(?:=|$)/.exec(word)?.[1];
  const isOption = (word: string) => {
    const name = nameOf(word);
    return word === '--' || (name !== undefined && (names.all.has(name) || names.all.has(name.replace(/^no-/, ''))));
  };
  // Nobody asks for help in the middle of an option.
  const isValue = (word: string, first: boolean) => !isOption(word) || (first && /^--(help|version)$/.test(word));
  const result: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i]!;
    const name = nameOf(word);
    if (word === '--') return { argv: [...result, '--', ...argv.slice(i + 1).map(away)], restore };
    if (name === undefined || !names.text.has(name)) {
      result.push(word === '-' || /^["'].*["']$/s.test(word) ? away(word) : word);
      continue;
    }
    const equals = word.indexOf('=');
    if (equals >= 0) {
      result.push(`${word.slice(0, equals)}=${away(word.slice(equals + 1))}`);
      continue;
    }
    result.push(word);
    for (let first = true; i + 1 < argv.length && isValue(argv[i + 1]!, first); first = false) {
      result.push(away(argv[++i]!));
      if (!names.list.has(name)) break;
    }
  }
  return { argv: result, restore };

  function restore<T>(value: T): T {
    if (Array.isArray(value)) return value.map((one) => restore(one)) as T;
    if (typeof value !== 'string') return value;
    return value.replace(new RegExp(`${MARK}(\\d+)`, 'g'), (_, i) => texts[Number(i)]!) as T;
  }
}

/** yargs takes `--no-name` and `--name=value` for any option; what makes no sense for its kind, as a message. */
export function misused(argv: readonly string[], kinds: OptionKinds): string | undefined {
  const names = namesOf(kinds);
  const words = beforeDashes(argv);
  for (const [i, word] of words.entries()) {
    const [, no, name, value] = /^--(no-)?([^=\s]+)(?:=(.*))?$/s.exec(word) ?? [];
    if (name === undefined || !names.all.has(name)) continue;
    const isSwitch = names.switches.has(name);
    if (no && !isSwitch) return `--no-${name} is not an option; --${name} takes a value`;
    // A text of nothing would be taken for 0.
    if (names.numbers.has(name) && (value ?? words[i + 1])?.trim() === '') return `--${name} expects a number`;
    if (isSwitch && value !== undefined && !/^(true|false)$/.test(value)) {
      return `--${name} is a switch and takes no value`;
    }
  }
  return undefined;
}

/** The first word of the line that looks like an option and is none, without its dashes. */
export function unknownOption(argv: readonly string[], kinds: OptionKinds): string | undefined {
  const { all } = namesOf(kinds);
  const names = beforeDashes(argv).flatMap((word) => /^--(?:no-)?([a-z][\w-]*)(?:=|$)/i.exec(word)?.[1] ?? []);
  return names.find((name) => !all.has(name));
}

/** Names that yargs keeps what it has sorted under; set by a line, they would take its place. */
export function reserved(argv: readonly string[]): string | undefined {
  // Letters after one dash are an option each.
  return beforeDashes(argv).find((word) => /^--(no-)?(_|\$0)(=|$)/.test(word) || /^-[^-\d][^=]*[_$]|^-[_$]/.test(word));
}

/** What may be options: nothing after `--` is. */
export function beforeDashes(argv: readonly string[]): readonly string[] {
  const upTo = argv.indexOf('--');
  return upTo < 0 ? argv : argv.slice(0, upTo);
}

/** The names of options as they may be typed, with dashes or as one word. */
export function namesOf({ string, number, boolean, array, alias, key }: OptionKinds) {
  const spelt = (given: readonly string[]) =>
    new Set(
      given
        .flatMap((name) => [name, ...(alias[name] ?? [])])
        .flatMap((name) => [
          name,
          name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase()),
          name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
        ]),
    );
  const text = spelt(string);
  const numbers = spelt(number);
  const switches = new Set([...spelt(boolean), 'help', 'version']);
  const all = new Set([...text, ...numbers, ...switches, ...spelt(Object.keys(key))]);
  return { text, numbers, switches, list: spelt(array), all };
}
