// Timing and reporting that the benches share.
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import * as tf from '@tensorflow/tfjs-core';

export function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

/**
 * Milliseconds of several contenders, the median of their runs. They take turns, so that a machine that is busy for a
 * while is busy for all of them.
 *
 * @param contenders by name: { prepare?, run }; `prepare` is not timed
 * @param repeats counted runs after a first one; 0: that first one counts
 */
export async function takeTurns(contenders, repeats) {
  const times = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]));
  for (let i = 0; i <= repeats; i++) {
    for (const [name, { prepare, run }] of Object.entries(contenders)) {
      await prepare?.();
      const start = performance.now();
      // Without a result: tidy would walk over every number of an array, looking for tensors.
      tf.tidy(() => {
        run();
      });
      if (i > 0 || repeats === 0) times[name].push(performance.now() - start);
    }
  }
  return Object.fromEntries(Object.entries(times).map(([name, values]) => [name, median(values)]));
}

/** What a report says of the machine. */
export function machine(description) {
  return {
    date: new Date().toISOString(),
    cpu: cpus()[0].model,
    cores: cpus().length,
    node: process.version,
    description,
  };
}

export function writeReport(name, report) {
  mkdirSync('benchmarks', { recursive: true });
  writeFileSync(`benchmarks/${name}.json`, `${JSON.stringify(report, roundedNumbers, 2)}\n`);
  console.log(`\nwritten to benchmarks/${name}.json`);
}

function roundedNumbers(_key, value) {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value;
}
