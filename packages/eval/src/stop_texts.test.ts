import fc from 'fast-check';
import { expect, it } from 'vitest';
import { StopTexts } from './stop_texts.js';

it('gives the text before the first stop text, however the text is cut into pieces', () => {
  const letters = (most: number) => fc.string({ unit: fc.constantFrom('a', 'b', '\n'), maxLength: most });
  fc.assert(
    fc.property(fc.array(letters(3), { maxLength: 30 }), fc.array(letters(4), { maxLength: 3 }), (pieces, texts) => {
      const ending = new StopTexts(texts);
      const written = pieces.map((piece) => ending.push(piece)).join('') + ending.rest();
      const whole = pieces.join('');
      // The shortest beginning that ends with a stop text; of several, the longest.
      const sorted = texts.filter((text) => text !== '').sort((a, b) => b.length - a.length);
      let expected: string | undefined;
      for (let end = 1; end <= whole.length && expected === undefined; end++) {
        const stop = sorted.find((text) => whole.slice(0, end).endsWith(text));
        if (stop !== undefined) expected = whole.slice(0, end - stop.length);
      }
      expect(ending.met).toBe(expected !== undefined);
      expect(written).toBe(expected ?? whole);
    }),
    { numRuns: 2000 },
  );
});

it('holds back no more than it must', () => {
  const ending = new StopTexts(['\n\n']);
  expect(ending.push('one\n')).toBe('one');
  expect(ending.push('two')).toBe('\ntwo');
});
