// The GPU kernels compile for the oldest and the newest architecture served, wherever nvcc is found; no GPU is needed.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { expandIncludes, sourceFolder } from './compiler.js';

function hasNvcc(): boolean {
  try {
    execFileSync('nvcc', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const sources = readdirSync(sourceFolder()).filter((file) => file.endsWith('.cu'));
/** Each file as it stands; the fused kernels for their other head dimensions, the other mechanism and FIRE's bias too. */
const units = sources.flatMap((file) => [
  { file, defines: [] as string[] },
  ...(file.startsWith('flash_')
    ? [
        { file, defines: ['HEAD_DIM=32', 'MECHANISM=0'] },
        { file, defines: ['HEAD_DIM=128', 'MECHANISM=1'] },
        { file, defines: ['HEAD_DIM=64', 'MECHANISM=1', 'FIRE=1'] },
      ]
    : []),
]);

describe('cuda sources', () => {
  it('are found beside the package, with includes that expand once', () => {
    expect(sources.length).toBeGreaterThan(0);
    for (const file of sources) {
      const text = expandIncludes(join(sourceFolder(), file));
      expect(text, file).not.toContain('#include "');
      expect(text.match(/bf16_to_float\(bf16 x\)/g)?.length, file).toBe(1);
    }
  });

  // Two architectures × every file, about two seconds each.
  describe.skipIf(!hasNvcc())('compiled by nvcc (skipped without it)', () => {
    for (const { file, defines } of units)
      it.each(['80', '90a'])(`${[file, ...defines].join(' ')} for sm_%s, no warning`, (arch) => {
        const folder = mkdtempSync(join(tmpdir(), 'cubin-'));
        try {
          const out = join(folder, 'x.cubin');
          const target = `-gencode=arch=compute_${arch},code=sm_${arch}`;
          execFileSync('nvcc', [
            '--cubin',
            '-std=c++17',
            '-Werror',
            'all-warnings',
            target,
            ...defines.map((define) => `-D${define}`),
            '-o',
            out,
            join(sourceFolder(), file),
          ]);
          expect(statSync(out).size).toBeGreaterThan(0);
        } finally {
          rmSync(folder, { recursive: true });
        }
      });
  });
});
