import { WriteStream } from 'node:tty';
import { afterEach, expect, it, vi } from 'vitest';
import { painted, withHeading } from './colour.js';

afterEach(() => vi.unstubAllEnvs());

/** As a terminal answers. */
const terminal = {
  isTTY: true,
  hasColors: () => WriteStream.prototype.hasColors.call({} as WriteStream, 16, process.env),
};
const RED = '\u001b[31mtext\u001b[39m';

it.each([
  ['a terminal', terminal, { TERM: 'xterm-256color' }, RED],
  ['a terminal without colours', terminal, { TERM: 'dumb' }, 'text'],
  ['NO_COLOR', terminal, { TERM: 'xterm-256color', NO_COLOR: '1' }, 'text'],
  ['a pipe', {}, { TERM: 'xterm-256color' }, 'text'],
])('%s', (_, stream, environment, expected) => {
  for (const name of ['NO_COLOR', 'FORCE_COLOR', 'NODE_DISABLE_COLORS']) vi.stubEnv(name, undefined);
  for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
  vi.spyOn(process, 'emitWarning').mockReturnValue();
  expect(painted('red', 'text', stream)).toBe(expected);
  expect(withHeading('text\nmore', stream)).toBe(expected === 'text' ? 'text\nmore' : '\u001b[1mtext\u001b[22m\nmore');
});
