/** For test files that share a process: after each, what belongs to the process is as it was before. */
import * as tf from '@tensorflow/tfjs-core';
import { afterAll, vi } from 'vitest';

const environment = { ...process.env };
const folder = process.cwd();
const listeners = process.eventNames().map((name) => [name, process.listeners(name as 'exit')] as const);

if (tf.findBackend('cpu')) tf.setBackend('cpu');

// The first that is asked for is the last to be called.
afterAll(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  vi.unstubAllGlobals();
  for (const name of Object.keys(process.env)) if (!(name in environment)) delete process.env[name];
  Object.assign(process.env, environment);
  process.chdir(folder);
  process.exitCode = undefined;
  const before = new Map(listeners);
  for (const name of process.eventNames()) {
    for (const listener of process.listeners(name as 'exit'))
      if (!before.get(name)?.includes(listener)) process.off(name, listener);
  }
});
