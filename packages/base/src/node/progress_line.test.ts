import { expect, it } from 'vitest';
import { progressLine } from './progress_line.js';

const shownOn = (columns: number | undefined, line: string) => {
  let written = '';
  const stream = {
    isTTY: true,
    ...(columns === undefined ? {} : { columns }),
    write: (text: string) => (written += text),
  };
  progressLine({ stream }).show(line, true);
  return written.replace('\r\u001b[K', '');
};

it('fits the terminal, also one that says it has 0 columns or says nothing', () => {
  const line = 'x'.repeat(200);
  expect(shownOn(40, line)).toHaveLength(39);
  expect(shownOn(0, line)).toHaveLength(79);
  expect(shownOn(undefined, line)).toHaveLength(79);
  expect(shownOn(0, 'short')).toBe('short');
});
