// The GPU kernels compile for the oldest and the newest architecture served, and agree with the host about every struct and
// number, by the compiler that the program uses (NVRTC) where it is found, or by nvcc; no GPU is needed.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { expandIncludes, type Nvrtc, openNvrtc, optionsFor, sourceFolder } from './compiler.js';
import * as kernelInterface from './kernel_interface.js';
import { BINARY, UNARY } from './operations.js';
import {
  BACKWARD,
  BACKWARD_KEYS,
  BACKWARD_QUERIES,
  FAR_KEYS,
  FAR_QUERIES,
  FAR_SORT,
  FORWARD,
  flashMacros,
} from './ops/flash_blocks.js';
import { GROUPED_FILE, groupedMacros } from './ops/grouped.js';
import { TYPE_CODE } from './storage.js';
import { type Scalar, Struct } from './struct.js';

/** Compiles a source and returns errors and warnings; throws where it does not compile. */
type Compile = (source: string, file: string, target: string, macros: readonly string[]) => string;

/** The program's own compiler, which refuses some of what nvcc takes. */
function runTimeCompiler(): Compile | undefined {
  let nvrtc: Nvrtc;
  try {
    nvrtc = openNvrtc();
  } catch {
    return undefined;
  }
  return (source, file, target, macros) => {
    const { cubin, log } = nvrtc.compile(source, file, optionsFor(file, target, macros));
    if (!cubin?.length) throw new Error(log);
    return log;
  };
}

function nvcc(): Compile | undefined {
  try {
    execFileSync('nvcc', ['--version'], { stdio: 'ignore' });
  } catch {
    return undefined;
  }
  return (source, file, target, macros) => {
    const folder = mkdtempSync(join(tmpdir(), 'cubin-'));
    try {
      const [path, out] = [join(folder, file), join(folder, 'x.cubin')];
      writeFileSync(path, source);
      const options = optionsFor(file, target, macros);
      return execFileSync('nvcc', ['--cubin', '-Werror', 'all-warnings', ...options, '-o', out, path], {
        encoding: 'utf8',
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  };
}

const compilers = { NVRTC: runTimeCompiler(), nvcc: nvcc() };
const [compilerName, compile] = Object.entries(compilers).find(([, found]) => found) ?? ['NVRTC or nvcc'];

const sources = readdirSync(sourceFolder()).filter((file) => file.endsWith('.cu'));
const gathered = [FAR_SORT, FAR_QUERIES, FAR_KEYS];
const fused = [FORWARD, BACKWARD, BACKWARD_QUERIES, BACKWARD_KEYS, ...gathered];
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
    const isGathered = gathered.some((one) => one === kernel);
    const onHopper = kernel === BACKWARD || isGathered;
    if (onHopper && !hopper) return [];
    const inOne = ({ bias, dim }: (typeof variants)[number]) => dim <= 64 && (bias === 'none' || bias === 'alibi');
    const served = variants.filter((variant) =>
      isGathered ? variant.mechanism === 'stick-breaking' : kernel !== BACKWARD || inOne(variant),
    );
    const near = kernel === BACKWARD ? (['near'] as const) : [];
    const levels = hopper && kernel === FORWARD ? (['near', 'far'] as const) : near;
    const farther = kernel && !onHopper ? { ...variants[0], hopper, farther: true } : undefined;
    const byLevel = levels.flatMap((rows) => [0, 1].map((i) => ({ ...variants[i]!, hopper: true, rows })));
    const macros = kernel
      ? [...served.map((variant) => ({ ...variant, hopper })), ...(farther ? [farther] : []), ...byLevel].map(
          (variant) => flashMacros(kernel, variant),
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
    '#ifdef __CUDACC_RTC__',
    '#define __builtin_offsetof(type, field) __INTADDR__(&((type*)0)->field)',
    '#endif',
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
  describe.skipIf(!compile)(`compiled by ${compilerName} (skipped without it)`, () => {
    for (const { target, hopper } of [
      { target: 'sm_80', hopper: false },
      { target: 'sm_90a', hopper: true },
    ])
      for (const { file, macros } of unitsFor(hopper))
        it(`${[file, ...macros].join(' ')} for ${target}, no warning`, () => {
          const source = withAssertions(expandIncludes(join(sourceFolder(), file)));
          expect(compile!(source, file, target, macros).trim()).toBe('');
        });
  });
});
