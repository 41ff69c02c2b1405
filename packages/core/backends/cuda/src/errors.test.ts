// What a machine without NVIDIA's driver or libraries is told: one line with the name and what to do.
import { describe, expect, it } from 'vitest';
import { openDriverLibrary } from './driver_library.js';
import { loadLibrary } from './libraries.js';

function driverIsHere(): boolean {
  try {
    openDriverLibrary();
    return true;
  } catch {
    return false;
  }
}

describe('missing CUDA parts', () => {
  it.skipIf(driverIsHere())('no driver (skipped where there is one)', () => {
    expect(openDriverLibrary).toThrow(/^no NVIDIA driver: libcuda\.so\.1 .*[^\n]$/);
  });

  it('a library that is nowhere: its name and the folders tried', () => {
    const before = process.env.CUDA_HOME;
    process.env.CUDA_HOME = '/nowhere/cuda';
    try {
      const message = /^CUDA library libabsent\.so not found: tried .*\/nowhere\/cuda\/lib64, .*CUDA_HOME/;
      expect(() => loadLibrary('libabsent')).toThrow(message);
      expect(() => loadLibrary('libabsent')).toThrow(expect.objectContaining({ name: 'UserError' }));
    } finally {
      if (before === undefined) delete process.env.CUDA_HOME;
      else process.env.CUDA_HOME = before;
    }
  });
});
