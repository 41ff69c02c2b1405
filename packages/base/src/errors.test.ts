import { describe, expect, it } from 'vitest';
import { explainSystemError, reasonIn, systemErrorIn, UserError } from './errors.js';

const systemError = (code: string) => Object.assign(new Error(`${code}: as Node says it`), { code });

describe("a system's error", () => {
  it('becomes one line that says what was being done, and keeps the error as its cause', () => {
    const error = systemError('ENOSPC');
    const told = explainSystemError(error, 'cannot write out.json');
    expect(told).toBeInstanceOf(UserError);
    expect(told).toMatchObject({
      message: 'cannot write out.json: the disk is full; free some space and run again (ENOSPC).',
      missing: false,
      cause: error,
    });
  });

  it('says of a file that is not there that nothing else is wrong', () => {
    expect(explainSystemError(systemError('ENOENT'), 'cannot read a')).toMatchObject({ missing: true });
  });

  it('is explained once, unless it is taken out and explained anew', () => {
    const first = explainSystemError(systemError('EROFS'), 'cannot write weights');
    expect(explainSystemError(first, 'cannot write the checkpoint')).toBe(first);
    expect(explainSystemError(systemErrorIn(first), 'cannot write the checkpoint')).toMatchObject({
      message: 'cannot write the checkpoint: the file system is read-only (EROFS).',
    });
  });

  it.each([new UserError('no such key'), new TypeError('a fault of ours'), systemError('ERR_ASSERTION'), 'text'])(
    'is not seen in %j',
    (other) => {
      expect(explainSystemError(other, 'cannot go on')).toBe(other);
      expect(systemErrorIn(other)).toBe(other);
    },
  );
});

it('passes on what a library says of its input, and not what it says of itself', () => {
  expect(reasonIn(new Error('parquet file invalid (footer)'))).toBe('parquet file invalid (footer)');
  expect(reasonIn(new TypeError("Cannot read properties of undefined (reading 'map')"))).toBeUndefined();
  expect(reasonIn(new RangeError('Offset is outside the bounds of the DataView'))).toBeUndefined();
  expect(reasonIn('text')).toBeUndefined();
});
