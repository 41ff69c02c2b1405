// Timing and reporting that the benches share.
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import { median } from '@stickbreaking/base';
import * as tf from '@tensorflow/tfjs-core';

const pause = 60;

/**
 * Milliseconds of several contenders, the median of their runs. They take turns of a few runs each, so that a machine
 * that is busy for a while is busy for all of them.
 *
 * @param contenders by name: { prepare?, run }; `prepare` is not timed
 * @param turns 0: one single run
 */
export async function takeTurns(contenders, turns, runsPerTurn = 5) {
  const times = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]));
  for (let turn = 0; turn < Math.max(1, turns); turn++) {
    for (const [name, { prepare, run }] of Object.entries(contenders)) {
      await prepare?.();
      await setTimeout(pause); // the other's threads may spin for a while after their work
      for (let i = turns === 0 ? 1 : 0; i <= (turns === 0 ? 1 : runsPerTurn); i++) {
        const start = performance.now();
        // Without a result: tidy would walk over every number of an array, looking for tensors.
        tf.tidy(() => {
          run();
        });
        if (i > 0) times[name].push(performance.now() - start); // the first of a turn warms up
      }
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
