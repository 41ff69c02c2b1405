import { WriteStream } from 'node:tty';
import { expect, it, vi } from 'vitest';
import { painted, withHeading } from './colour.js';

const RED = '\u001b[31mtext\u001b[39m';

/** Answers as a terminal does under these variables alone: those of the process, such as CI, are not looked at. */
const terminal = (environment: Record<string, string>) => ({
  isTTY: true,
  hasColors: () => WriteStream.prototype.hasColors.call({} as WriteStream, 16, environment),
});

it.each([
  ['a terminal', terminal({ TERM: 'xterm-256color' }), RED],
  ['a terminal without colours', terminal({ TERM: 'dumb' }), 'text'],
  ['NO_COLOR', terminal({ TERM: 'xterm-256color', NO_COLOR: '1' }), 'text'],
  ['FORCE_COLOR', terminal({ TERM: 'dumb', FORCE_COLOR: '1' }), RED],
  ['a pipe', {}, 'text'],
])('%s', (_, stream, expected) => {
  vi.spyOn(process, 'emitWarning').mockReturnValue();
  expect(painted('red', 'text', stream)).toBe(expected);
  expect(withHeading('text\nmore', stream)).toBe(expected === 'text' ? 'text\nmore' : '\u001b[1mtext\u001b[22m\nmore');
});
