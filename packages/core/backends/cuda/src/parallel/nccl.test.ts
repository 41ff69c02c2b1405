// What NCCL is given, read as its header has it; no GPU is needed.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OutOfMemoryError } from '@stickbreaking/base';
import { expect, it } from 'vitest';
import { configBytes, failure } from './nccl.js';

/** The fields of ncclConfig_t in their order; 2.18 ends with splitShare. */
const FIELDS = [
  ...['size_t size', 'unsigned magic', 'unsigned version', 'int blocking', 'int cgaClusterSize', 'int minCTAs'],
  ...['int maxCTAs', 'const char* netName', 'int splitShare', 'int trafficClass', 'const char* commName'],
  ...['int collnetEnable', 'int CTAPolicy', 'int shrinkShare', 'int nvlsCTAs', 'int nChannelsPerNetPeer'],
  'int nvlinkCentricSched',
];

/** The values that a C program reads, without those that say nothing. */
function readByC(bytes: Uint8Array, fields: readonly string[]): Record<string, number> {
  const folder = mkdtempSync(join(tmpdir(), 'nccl-'));
  try {
    const names = fields.map((field) => field.split(' ').at(-1)!);
    const prints = names.map((name) => `  printf("${name} %lld\\n", (long long)c.${name});`);
    const source = [
      '#include <stdio.h>',
      `struct config { ${fields.join('; ')}; };`,
      'int main(void) {',
      '  struct config c;',
      '  if (fread(&c, 1, sizeof c, stdin) != sizeof c || fgetc(stdin) != EOF) return 1;',
      ...prints,
      '  return 0;',
      '}',
    ];
    writeFileSync(join(folder, 'config.c'), source.join('\n'));
    execFileSync('cc', ['-o', join(folder, 'config'), join(folder, 'config.c')]);
    const lines = execFileSync(join(folder, 'config'), { input: bytes, encoding: 'utf8' }).trim().split('\n');
    const values = lines.map((line) => line.split(' ')).map(([name, value]) => [name!, Number(value)] as const);
    return Object.fromEntries(values.filter(([, value]) => value !== -(2 ** 31)));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

it('is configured as 2.18 takes it, and where copy engines can gather, to leave multiprocessors alone', () => {
  const always = { magic: 0xcafebeef, blocking: 1, netName: 0 };
  const old = FIELDS.slice(0, 9);
  for (const version of [undefined, 21_800, 22_703])
    expect(readByC(configBytes(version), old)).toEqual({ ...always, size: 48, version: 21_800 });
  expect(readByC(configBytes(22_809), FIELDS)).toEqual({
    ...{ ...always, size: 80, version: 22_800 },
    ...{ commName: 0, CTAPolicy: 2 },
  });
});

it('says that memory is out as it is said elsewhere, so that a run is told what would fit, and all else by NCCL’s words', () => {
  const more = "unhandled cuda error (run with NCCL_DEBUG=INFO for details) (Cuda failure 2 'out of memory')";
  const told = (name: string, status: number, last?: string) =>
    failure(name, status, 'unhandled cuda error', last, [0, 3 * 2 ** 20]);
  const [buffers, asked] = [told('ncclReduceScatter', 1, more), told('ncclMemAlloc', 1)];
  for (const one of [buffers, asked]) expect(one).toBeInstanceOf(OutOfMemoryError);
  expect(buffers.message).toBe("out of GPU memory: none was left for NCCL's own buffers, in ncclReduceScatter");
  expect(asked.message).toBe('out of GPU memory: 3 MiB asked of NCCL');
  const other = told('ncclAllGather', 2, 'no such device');
  expect(other).not.toBeInstanceOf(OutOfMemoryError);
  expect(other.message).toBe(
    'ncclAllGather failed: unhandled cuda error (no such device); set NCCL_DEBUG=WARN for more',
  );
});
