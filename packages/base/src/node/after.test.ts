import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { after } from './after.js';

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

it.each([0, 1, 60_000, 2 ** 31 - 1, 2 ** 31, 40_000 * 60_000, 1e12])(
  'calls after %d ms and not before',
  (milliseconds) => {
    const call = vi.fn();
    after(milliseconds, call);
    if (milliseconds > 0) vi.advanceTimersByTime(milliseconds - 1);
    expect(call).toHaveBeenCalledTimes(milliseconds > 0 ? 0 : 1);
    vi.advanceTimersByTime(1);
    expect(call).toHaveBeenCalledTimes(1);
  },
);

it('forgets', () => {
  const call = vi.fn();
  after(5000, call)();
  vi.advanceTimersByTime(10_000);
  expect(call).not.toHaveBeenCalled();
});
