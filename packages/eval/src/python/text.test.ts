import { describe, expect, it } from 'vitest';
import { exp } from './exp.js';
import { dumpJson } from './json.js';
import { parseLiteral, reprOf, reprOfList } from './literal.js';
import { capitalize, countPieces, isDigits, length, lstrip, rstrip, strip, words } from './text.js';

describe("Python's text", () => {
  it('takes more and less than JavaScript for white space', () => {
    expect(strip('\x1c\u0085 a b\u3000\n')).toBe('a b');
    expect(strip('\ufeffa\u200b')).toBe('\ufeffa\u200b');
    expect([lstrip(' a '), rstrip(' a ')]).toEqual(['a ', ' a']);
    expect(words('  a\x1db  c\n')).toEqual(['a', 'b', 'c']);
    expect(['', ' ', 'a', ' a b ', '\x1c ab', 'a\u200bb', 'x\ufeffy'].map(countPieces)).toEqual([1, 2, 1, 4, 2, 1, 1]);
  });

  it('counts characters, not UTF-16 units', () => {
    expect(['naïve', '😀😀', '日本', '\ud800a'].map(length)).toEqual([5, 2, 2, 2]);
  });

  it('capitalises the first character and makes the rest small', () => {
    expect(['hE SAID', 'éA B', 'ßX', 'ǆaB', ''].map(capitalize)).toEqual(['He said', 'Éa b', 'Ssx', 'ǅab', '']);
  });

  it('knows digits that are not decimal', () => {
    expect(['12', '²', '٣', '①', '', '1.5', '½', 'Ⅷ'].map(isDigits)).toEqual([
      true,
      true,
      true,
      true,
      false,
      false,
      false,
      false,
    ]);
  });
});

describe('Python literals', () => {
  it('are read', () => {
    const text = `[{'q': "it's", 'n': -1.5e2, "l": ('a' 'b', None, True,), 'x': '\\x41\\u00e9\\U0001F600\\n\\'\\q'}, []]`;
    const value = [{ q: "it's", n: -150, l: ['ab', null, true], x: "Aé😀\n'\\q" }, []];
    expect(parseLiteral(text, 'it')).toEqual(value);
  });

  it.each([
    ["['a'", "it is no Python literal: ',' is missing at character 5"],
    ["['a", 'a text does not end'],
    ["'a' 5", 'something follows the value at character 5'],
    ['[x]', 'there is no value'],
  ])('%s is none', (text, message) => {
    expect(() => parseLiteral(text, 'it')).toThrow(message);
  });

  it('are written as repr does', () => {
    expect(["it's", `say "x" it's`, 'a\u00a0b\x00\né\u200b\\', '😀'].map(reprOf)).toEqual([
      `"it's"`,
      `'say "x" it\\'s'`,
      "'a\\xa0b\\x00\\né\\u200b\\\\'",
      "'😀'",
    ]);
    expect(reprOfList(['a', "it's"])).toBe(`['a', "it's"]`);
  });

  it('make JSON with an indent of two', () => {
    expect(dumpJson({ a: ['é', 1], b: {} })).toBe('{\n  "a": [\n    "é",\n    1\n  ],\n  "b": {}\n}');
  });
});

describe('exp', () => {
  it('is rounded to the nearest double', () => {
    // The first two are where V8's own is one unit off.
    const known: [number, number][] = [
      [3.2531243488176, 25.87104394333344],
      [0.5472550123, 1.7285017836754315],
      [-12.25, 4.785117392129009e-6],
      [1, Math.E],
      [100.3, 3.628578599676532e43],
      [0, 1],
      [-800, 0],
      [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
    ];
    for (const [x, value] of known) expect(exp(x), `exp(${x})`).toBe(value);
  });
});
