import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { MetricsFile } from './metrics.js';
import { MetricsTail } from './metrics_tail.js';

const folder = mkdtempSync(join(tmpdir(), 'tail-'));
afterAll(() => rmSync(folder, { recursive: true }));
const line = (step: number) => ({ step, tokens: 8 * step, validationLoss: 2 / step });
const stepsOf = ({ lines }: MetricsTail) => lines.map(({ step }) => step);

it('reads what is new, whole lines alone', () => {
  const path = join(folder, 'grows.jsonl');
  const tail = new MetricsTail(path);
  expect(tail.read()).toBe(false); // it is not there yet
  writeFileSync(path, `${JSON.stringify(line(1))}\n{"step":2,"valid`);
  expect(tail.read()).toBe(true);
  expect(stepsOf(tail)).toEqual([1]);
  expect(tail.read()).toBe(false);
  appendFileSync(path, `ationLoss":1}\nno line of metrics\n${JSON.stringify(line(3))}\n`);
  expect(tail.read()).toBe(true);
  expect(stepsOf(tail)).toEqual([1, 2, 3]);
  expect(tail.generation).toBe(0);
});

it('begins anew where a resumed run has dropped lines, or the file is gone', () => {
  const path = join(folder, 'resumed.jsonl');
  const write = (keepSteps: number, ...steps: number[]) => {
    const file = new MetricsFile(path, keepSteps);
    for (const step of steps) file.append(line(step));
    file.close();
  };
  const tail = new MetricsTail(path);
  write(0, 1, 2, 3);
  tail.read();
  expect([stepsOf(tail), tail.generation]).toEqual([[1, 2, 3], 0]);
  write(1, 2, 3, 4, 5); // longer than before, so that its size says nothing
  expect(tail.read()).toBe(true);
  expect([stepsOf(tail), tail.generation]).toEqual([[1, 2, 3, 4, 5], 1]);
  rmSync(path);
  expect(tail.read()).toBe(true);
  expect([stepsOf(tail), tail.generation]).toEqual([[], 2]);
  expect(tail.read()).toBe(false);
});
