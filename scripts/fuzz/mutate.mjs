// Mutations of bytes, of JSON-like trees and of command lines. Each is a function of its own seed, so that a case is a
// list of mutations from which any may be left out: that is how a failure is made smaller.
import { chooser } from './random.mjs';

/** Numbers at which programs go wrong: edges of int32, uint32, float32, float64 and of common sense. */
const numbers = [
  ...[0, -0, 1, -1, 2, 0.5, -0.5, 3, 7, 63, 64, 65, 127, 255, 256, 1023, 65_535, 65_536],
  ...[2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 1, 2 ** 53, 1e15, 1e18],
  ...[1e-8, 1e-38, 1e-39, 1e-45, 1e-60, 1e-300, 3.4e38, 3.5e38, 1e300, -1e300],
  ...[Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
];
const texts = [
  ...[
    '',
    ' ',
    '0',
    'null',
    'true',
    '-',
    '--',
    '-1',
    '1e999',
    '..',
    '../..',
    '/',
    '/dev/full',
    '/proc/self/mem',
    '~',
    '*',
    '**',
  ],
  ...[
    '\0',
    'a\0b',
    '\n',
    '\r\n',
    '\u2028',
    '\ud800',
    '\ufeff',
    '\u0000'.repeat(3),
    '\u001b[31mred',
    '%s%n',
    '$(HOME)',
    "'",
    '"',
  ],
  ...[
    '{',
    '[',
    '{a: 1}',
    '[1, 2]',
    '!!binary',
    '&a [*a]',
    '*a',
    'a'.repeat(300),
    'ü'.repeat(5000),
    '1'.repeat(400),
    '🙂',
  ],
  ...['constructor', '__proto__', 'toString', 'kind', 'stick-breaking', 'softmax', 'rope', 'cosine'],
];
const values = [null, true, false, [], {}, [[]], [null], { kind: 'none' }, undefined];

export const oddNumber = (choose) => choose.pick(numbers);
export const oddText = (choose) => choose.pick(texts);
const oddValue = (choose) => choose.pick([() => oddNumber(choose), () => oddText(choose), () => choose.pick(values)])();

/** Changes bytes somewhere; the result may be of another length. */
export function mutateBytes(bytes, seed) {
  const choose = chooser(seed);
  const at = choose.below(Math.max(1, bytes.length));
  const length = Math.min(bytes.length - at, 1 + choose.below(choose.pick([1, 4, 64, 4096])));
  const rest = bytes.subarray(at + length);
  const piece = bytes.subarray(at, at + length);
  const random = () => Buffer.from(Array.from({ length: 1 + choose.below(16) }, () => choose.below(256)));
  const flip = () => {
    const copy = Buffer.from(bytes);
    if (copy.length > 0) copy[at] ^= 1 << choose.below(8);
    return copy;
  };
  return choose.pick([
    flip,
    flip,
    flip,
    () => bytes.subarray(0, at),
    () => Buffer.concat([bytes.subarray(0, at), rest]),
    () => Buffer.concat([bytes.subarray(0, at), random(), bytes.subarray(at)]),
    () => Buffer.concat([bytes.subarray(0, at), piece, piece, rest]),
    () => Buffer.concat([bytes.subarray(0, at), random(), rest]),
    () => Buffer.concat([bytes, random()]),
    () => Buffer.concat([bytes.subarray(0, at), Buffer.alloc(length), rest]),
    () => Buffer.alloc(0),
  ])();
}

/** Every place in a tree, as the keys that lead there. */
function placesOf(tree, path = []) {
  if (typeof tree !== 'object' || tree === null) return [path];
  return [path, ...Object.keys(tree).flatMap((key) => placesOf(tree[key], [...path, key]))];
}

/** Changes one place of a tree of plain objects, lists and values. The tree itself stays as it is. */
export function mutateTree(tree, seed) {
  const choose = chooser(seed);
  const copy = structuredClone(tree);
  const places = placesOf(copy).filter((path) => path.length > 0);
  if (places.length === 0) return oddValue(choose);
  const path = choose.pick(places);
  const key = path.at(-1);
  const parent = path.slice(0, -1).reduce((at, one) => at[one], copy);
  const old = parent[key];
  const other = choose.pick(places).reduce((at, one) => at?.[one], copy);
  const near = typeof old === 'number' ? choose.pick([old + 1, old - 1, -old, old * 2, old / 2, old * 1e6]) : undefined;
  const set = (value) => {
    parent[key] = value;
  };
  choose.pick([
    () => set(oddValue(choose)),
    () => set(oddValue(choose)),
    () => set(near ?? oddNumber(choose)),
    () => set(typeof old === 'number' ? oddNumber(choose) : oddText(choose)),
    () => set(structuredClone(other)),
    () => set([old]),
    () => set({ [key]: old }),
    () => set(typeof old === 'string' ? old.toUpperCase() : JSON.stringify(old)),
    () => (Array.isArray(parent) ? parent.splice(Number(key), 1) : delete parent[key]),
    () => {
      if (Array.isArray(parent)) parent.push(structuredClone(old));
      else parent[`${key}${choose.pick(['s', '_', ' ', 'X'])}`] = old;
    },
    () => {
      if (Array.isArray(parent)) return;
      delete parent[key];
      parent[misspelt(key, choose)] = old;
    },
  ])();
  return copy;
}

function misspelt(word, choose) {
  const at = choose.below(word.length + 1);
  return choose.pick([
    () => word.slice(0, at) + word.slice(at + 1),
    () => word.slice(0, at) + choose.pick('abcxyz-_. '.split('')) + word.slice(at),
    () => word.toUpperCase(),
  ])();
}

/** Changes one thing of a command line: an option left out, given twice, misspelt, or with an odd value. */
export function mutateArguments(args, seed) {
  const choose = chooser(seed);
  const at = choose.below(Math.max(1, args.length));
  const with_ = (value) => [...args.slice(0, at), value, ...args.slice(at + 1)];
  const word = args[at] ?? '';
  const anyText = () => choose.pick([() => String(oddNumber(choose)), () => oddText(choose)])();
  return choose
    .pick([
      () => args.toSpliced(at, 1),
      () => args.toSpliced(at, 0, word),
      () => args.toSpliced(at, 0, anyText()),
      () => with_(misspelt(word, choose)),
      () =>
        with_(
          word.includes('=')
            ? `${word.split('=')[0]}=${anyText()}`
            : word.startsWith('--')
              ? `${word}=${anyText()}`
              : anyText(),
        ),
      () => with_(word.startsWith('--') ? `--no-${word.slice(2)}` : anyText()),
      () => [...args, ...args],
    ])()
    .filter((one) => !one.includes('\0'));
}
