// The GPU kernels compile for the oldest and the newest architecture served, wherever nvcc is found; no GPU is needed.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { expandIncludes, kernelSource, sourceFolder } from './compiler.js';
import { declaredIn, everythingDeclared, sizesOf } from './kernel_interface.js';
import { BACKWARD_KEYS, BACKWARD_QUERIES, FORWARD, flashMacros } from './ops/flash_blocks.js';

function hasNvcc(): boolean {
  try {
    execFileSync('nvcc', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const sources = readdirSync(sourceFolder()).filter((file) => file.endsWith('.cu'));
const fused = [FORWARD, BACKWARD_QUERIES, BACKWARD_KEYS];
/** What the fused kernels are compiled for here: each head dimension, both mechanisms, FIRE's bias. */
const variants = [
  { mechanism: 'stick-breaking', fire: false, dim: 64 },
  { mechanism: 'stick-breaking', fire: false, dim: 32 },
  { mechanism: 'softmax', fire: false, dim: 128 },
  { mechanism: 'softmax', fire: true, dim: 64 },
] as const;

/** The sources with the macros that the host gives them for an architecture. */
function unitsFor(hopper: boolean): { file: string; macros: string[] }[] {
  return sources.flatMap((file) => {
    const kernel = fused.find((one) => one.file === file);
    const macros = kernel ? variants.map((variant) => flashMacros(kernel, { ...variant, hopper })) : [[]];
    return macros.map((given) => ({ file, macros: given }));
  });
}

describe('cuda sources', () => {
  it('are found beside the package, with includes that expand once', () => {
    expect(sources.length).toBeGreaterThan(0);
    for (const file of sources) {
      const text = expandIncludes(join(sourceFolder(), file));
      expect(text, file).not.toContain('#include "');
      expect(text.match(/bf16_to_float\(bf16 x\)/g)?.length, file).toBe(1);
    }
  });

  it('declare every struct and number that the host holds them to', () => {
    const declared = sources.map((file) => declaredIn(expandIncludes(join(sourceFolder(), file))));
    expect(new Set(declared.flatMap(({ structs }) => structs))).toEqual(new Set(everythingDeclared.structs));
    expect(new Set(declared.flatMap(({ numbers }) => numbers))).toEqual(new Set(everythingDeclared.numbers));
  });

  // Two architectures × every file, about two seconds each.
  describe.skipIf(!hasNvcc())('compiled by nvcc (skipped without it)', () => {
    for (const { arch, hopper } of [
      { arch: '80', hopper: false },
      { arch: '90a', hopper: true },
    ])
      for (const { file, macros } of unitsFor(hopper))
        it(`${[file, ...macros].join(' ')} for sm_${arch}, no warning`, () => {
          const folder = mkdtempSync(join(tmpdir(), 'cubin-'));
          try {
            const [source, out] = [join(folder, file), join(folder, 'x.cubin')];
            writeFileSync(source, kernelSource(file));
            const target = `-gencode=arch=compute_${arch},code=sm_${arch}`;
            const defines = [...sizesOf(file), ...macros].map((macro) => `-D${macro}`);
            execFileSync('nvcc', [
              '--cubin',
              '-std=c++17',
              '-Werror',
              'all-warnings',
              target,
              ...defines,
              '-o',
              out,
              source,
            ]);
            expect(statSync(out).size).toBeGreaterThan(0);
          } finally {
            rmSync(folder, { recursive: true });
          }
        });
  });
});
