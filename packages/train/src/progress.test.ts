import { describe, expect, it, vi } from 'vitest';
import { Progress } from './progress.js';

describe('the progress line', () => {
  it('says how much is tokenized, and how long the rest takes', () => {
    let seconds = 100;
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => 1000 * seconds);
    const shown: string[] = [];
    const stream = { write: (text: string) => shown.push(text) };
    const progress = new Progress({ totalSteps: 1, totalTokens: 1, stream, interval: 0 });
    const at = (bytes: number, later: number, totalBytes = 4000) => {
      seconds += later;
      const counted = { documents: 1200, tokens: 34_000, bytes, totalBytes };
      progress.tokenizing({ file: 'text.txt', fileIndex: 0, files: 2, ...counted });
      return shown.at(-1);
    };
    expect(at(1000, 1)).toBe('tokenizing: 25 %, file 1 of 2 (text.txt): 1.20k documents, 34.0k tokens\n');
    // 500 bytes in 10 seconds, so 2500 in 50
    expect(at(1500, 10)).toContain('tokenizing: 37 %, 50s left, ');
    expect(at(4000, 50)).toContain('tokenizing: 100 %, 0s left, ');
    expect(at(10, 1, 1000)).toContain('tokenizing: 1 %, file'); // another source
    clock.mockRestore();
  });
});
