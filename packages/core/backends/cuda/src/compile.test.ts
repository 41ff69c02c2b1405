// The GPU kernels compile for the oldest and the newest architecture served, and agree with the host about every struct and
// number, wherever nvcc is found; no GPU is needed.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { expandIncludes, sourceFolder } from './compiler.js';
import * as kernelInterface from './kernel_interface.js';
import { sizesOf } from './kernel_interface.js';
import { BINARY, UNARY } from './operations.js';
import { BACKWARD, BACKWARD_KEYS, BACKWARD_QUERIES, FORWARD, flashMacros } from './ops/flash_blocks.js';
import { GROUPED_FILE, groupedMacros } from './ops/grouped.js';
import { TYPE_CODE } from './storage.js';
import { type Scalar, Struct } from './struct.js';

function hasNvcc(): boolean {
  try {
    execFileSync('nvcc', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const sources = readdirSync(sourceFolder()).filter((file) => file.endsWith('.cu'));
const fused = [FORWARD, BACKWARD, BACKWARD_QUERIES, BACKWARD_KEYS];
/** What the fused kernels are compiled for here: each head dimension, both mechanisms, the biases. */
const variants = [
  { mechanism: 'stick-breaking', bias: 'none', dim: 64 },
  { mechanism: 'stick-breaking', bias: 'none', dim: 32 },
  { mechanism: 'softmax', bias: 'none', dim: 128 },
  { mechanism: 'softmax', bias: 'none', dim: 64 },
  { mechanism: 'softmax', bias: 'fire', dim: 64 },
  { mechanism: 'softmax', bias: 'alibi', dim: 64 },
  { mechanism: 'softmax', bias: 'keys', dim: 64 },
] as const;

/** The sources with the macros that the host gives them for an architecture. */
function unitsFor(hopper: boolean): { file: string; macros: string[] }[] {
  return sources.flatMap((file) => {
    const kernel = fused.find((one) => one.file === file);
    if (kernel === BACKWARD && !hopper) return [];
    const inOne = ({ bias, dim }: (typeof variants)[number]) => dim <= 64 && (bias === 'none' || bias === 'alibi');
    const served = variants.filter((variant) => kernel !== BACKWARD || inOne(variant));
    const farther = kernel && kernel !== BACKWARD ? { ...variants[0], hopper, farther: true } : undefined;
    const macros = kernel
      ? [...served.map((variant) => ({ ...variant, hopper })), ...(farther ? [farther] : [])].map((variant) =>
          flashMacros(kernel, variant),
        )
      : [file === GROUPED_FILE ? groupedMacros(hopper) : []];
    return macros.map((given) => ({ file, macros: given }));
  });
}

const structs = Object.values(kernelInterface).filter((one) => one instanceof Struct);

/** The numbers that the host means by names of the sources, by the words that open their declaration there. */
const numbers: Record<string, Record<string, number>> = {
  'enum StorageType {': { F32: TYPE_CODE.f32, BF16: TYPE_CODE.bf16, I32: TYPE_CODE.i32, U8: TYPE_CODE.u8 },
  'namespace binary_op {': Object.fromEntries(BINARY.map((name, i) => [`binary_op::${name}`, i])),
  'namespace unary_op {': Object.fromEntries(UNARY.map((name, i) => [`unary_op::${name}`, i])),
};

const declares = (source: string, { name }: { name: string }) => source.includes(`struct ${name} {`);

const cppTypes: Record<Scalar, string> = { pointer: 'void*', i64: 'long long', i32: 'int', f32: 'float' };

/** C++ that compiles where the struct of this name has the host's fields in their places, and no others. */
function structAssertions({ name, size, places }: (typeof structs)[number]): string[] {
  const fields = places.map(({ name: field, type, count, offset }) => {
    const declared = count === 1 ? cppTypes[type] : `${cppTypes[type]}[${count}]`;
    const same = `host::same<host::plain<decltype(${name}::${field})>::type, ${declared}>::value`;
    return `static_assert(__builtin_offsetof(${name}, ${field}) == ${offset} && ${same}, "${name}::${field} is not what the host writes");`;
  });
  return [...fields, `static_assert(sizeof(${name}) == ${size}, "${name} is not as large as the host's");`];
}

/** The source, followed by what compiles only where it agrees with the host. Every pointer counts as one to void. */
function withAssertions(source: string): string {
  const named = Object.entries(numbers).flatMap(([opening, values]) =>
    source.includes(opening) ? Object.entries(values) : [],
  );
  return [
    source,
    'namespace host {',
    'template <class A, class B> struct same { static constexpr bool value = false; };',
    'template <class A> struct same<A, A> { static constexpr bool value = true; };',
    'template <class A> struct plain { using type = A; };',
    'template <class A> struct plain<A*> { using type = void*; };',
    '}',
    ...structs.filter((struct) => declares(source, struct)).flatMap(structAssertions),
    ...named.map(([name, value]) => `static_assert(${name} == ${value}, "${name} is another number on the host");`),
  ].join('\n');
}

describe('cuda sources', () => {
  it('are found beside the package, with includes that expand once', () => {
    expect(sources.length).toBeGreaterThan(0);
    for (const file of sources) {
      const text = expandIncludes(join(sourceFolder(), file));
      expect(text, file).not.toContain('#include "');
      expect(text.match(/bf16_to_float\(bf16 x\)/g)?.length, file).toBe(1);
      // nvcc takes generic lambdas, the run-time compiler does not.
      expect(text, file).not.toMatch(/\]\s*\([^)]*\bauto\b/);
    }
  });

  it('declare every struct and number that the host writes', () => {
    const texts = sources.map((file) => expandIncludes(join(sourceFolder(), file)));
    expect(structs.length).toBeGreaterThan(5);
    const missing = [
      ...structs.filter((struct) => !texts.some((text) => declares(text, struct))).map(({ name }) => name),
      ...Object.keys(numbers).filter((opening) => !texts.some((text) => text.includes(opening))),
    ];
    expect(missing).toEqual([]);
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
            writeFileSync(source, withAssertions(expandIncludes(join(sourceFolder(), file))));
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
