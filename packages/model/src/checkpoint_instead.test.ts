import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { EXIT, explainSystemError } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { CHECKSUMS_FILE, checksumsOf, LlamaModel, RefusedCheckpoint, withCheckpointInstead } from './index.js';

const run = mkdtempSync(join(tmpdir(), 'instead-'));
const at = (step: number) => join(run, 'checkpoints', `step-0000000${step}`);
const refused = (directory = at(3)) => new RefusedCheckpoint('It is cut.', directory);
const told = async (...args: Parameters<typeof withCheckpointInstead>) =>
  ((await withCheckpointInstead(...args)) as Error).message;

beforeAll(async () => {
  await selectBackend('cpu');
  const sizes = { vocabSize: 8, hiddenSize: 8, intermediateSize: 8, numLayers: 1, numHeads: 2, contextLength: 16 };
  const model = LlamaModel.create(sizes);
  model.save(at(1));
  model.dispose();
  writeFileSync(join(at(1), CHECKSUMS_FILE), await checksumsOf(at(1)));
  for (const step of [2, 3]) cpSync(at(1), at(step), { recursive: true });
});
afterAll(() => rmSync(run, { recursive: true }));

it('names another that is good, from the directory itself too', async () => {
  expect(await withCheckpointInstead(refused())).toMatchObject({
    message: `It is cut; ${at(2)} is good: take that one.`,
    exitCode: EXIT.refused,
  });
  const before = process.cwd();
  process.chdir(at(3));
  try {
    expect(await told(refused('.'))).toBe(`It is cut; ${join('..', 'step-00000002')} is good: take that one.`);
    const other = relative('.', at(2));
    expect(await told(refused(relative('.', at(1))))).toBe(`It is cut; ${other} is good: take that one.`);
  } finally {
    process.chdir(before);
  }
});

it('takes only one that is refused for no use, and says where one could not be looked at', async () => {
  const check = (error: unknown) => ({
    check: (directory: string) => {
      if (directory === at(2)) throw error;
    },
  });
  expect(await told(refused(), check(refused(at(2))))).toBe(`It is cut; ${at(1)} is good: take that one.`);
  const denied = Object.assign(new Error('denied'), { code: 'EACCES', errno: -13, syscall: 'open', path: 'weights' });
  const unseen = `It is cut; whether ${at(2)} is good could not be seen (cannot open weights: permission denied (EACCES)).`;
  expect(await told(refused(), check(denied))).toBe(unseen);
  expect(await told(refused(), check(explainSystemError(denied, 'cannot open weights')))).toBe(unseen);
  const fault = new TypeError('a fault of the program');
  await expect(withCheckpointInstead(refused(), check(fault))).rejects.toBe(fault);
});

it('reads no more than it may', async () => {
  const file = join(at(2), 'model.safetensors');
  const bytes = readFileSync(file);
  bytes[bytes.length - 1] = bytes[bytes.length - 1]! ^ 64;
  writeFileSync(file, bytes);
  const finite: boolean[] = [];
  const check = (_: string, isRead: boolean) => finite.push(isRead);
  expect(await told(refused(), { check, mostBytes: bytes.length - 1 })).toBe(
    `It is cut; ${at(2)} can be read: take that one.`,
  );
  expect(await told(refused(), { check, mostBytes: 2 * bytes.length })).toBe(
    `It is cut; ${at(1)} is good: take that one.`,
  );
  // What was read of the one before counts too.
  expect(await told(refused(), { check, mostBytes: bytes.length })).toBe(
    `It is cut; ${at(1)} can be read: take that one.`,
  );
  expect(finite).toEqual([false, true, false]);
});
