// What every bench on a GPU begins with, and how one that cannot go on ends: one line, exit code 1.

import { countGpus, openCuda } from '@stickbreaking/core/cuda';
import { joinByNccl, launchOnGpus, narrowGpus, placeOf } from '@stickbreaking/train';
import * as tf from '@tensorflow/tfjs-core';

// A mistake of the user's (an unknown option, a missing file, no GPU, too little memory) is told without a stack trace, from
// the moment this is imported.
process.on('uncaughtException', (error) => {
  const theirs = error.name === 'UserError' || error.code !== undefined;
  console.error(theirs ? error.message : error.stack);
  process.exit(1);
});

/** Opens the GPU, makes it TensorFlow.js's backend and says which it is; its `backend`. */
export async function openGpu(says = true) {
  const { backend, description } = openCuda();
  tf.setBackend('cuda');
  await tf.ready();
  if (says) console.log(description);
  return backend;
}

/**
 * Times what is launched from here on, an event on either side of each. The function that it returns ends that, waits, and gives
 * each launch's name and milliseconds, and those from the first one's start to the last one's end.
 */
export function timeLaunches(driver, wanted = () => true) {
  const spans = [];
  driver.onLaunch = (name, run) => {
    if (!wanted(name)) return run();
    const [start, end] = [driver.createEvent(true), driver.createEvent(true)];
    driver.recordEvent(start);
    run();
    driver.recordEvent(end);
    spans.push({ name, start, end });
  };
  return () => {
    driver.onLaunch = undefined;
    driver.synchronize();
    const launches = spans.map(({ name, start, end }) => ({ name, ms: driver.elapsed(start, end) }));
    const whole = spans.length > 0 ? driver.elapsed(spans[0].start, spans.at(-1).end) : 0;
    for (const { start, end } of spans) for (const event of [start, end]) driver.call('cuEventDestroy_v2', event);
    return { launches, whole };
  };
}

/** Milliseconds and launches of each kernel, the longest first. */
export function byKernel(launches) {
  const totals = new Map();
  for (const { name, ms } of launches) {
    const { time = 0, launches: before = 0 } = totals.get(name) ?? {};
    totals.set(name, { time: time + ms, launches: before + 1 });
  }
  return [...totals].sort((a, b) => b[1].time - a[1].time);
}

/** The command as it was given, but for where its numbers go; kept with them. */
export function commandGiven(name, out) {
  return [`npm run bench -- ${name}`, ...process.argv.slice(2).filter((one) => one !== '--out' && one !== out)].join(
    ' ',
  );
}

/**
 * Starts this program once for each of so many GPUs and ends when they do; in those it joins the others.
 *
 * @param settings `shard`: what they share; `context`: how many share a sequence, `contextBy`: and how; `orderedSums`; `reduceType`
 */
export async function joinGpus(asked, settings = {}) {
  // One GPU goes the way of several, alone.
  const alone = { rank: 0, size: 1, localRank: 0, localSize: 1, launcher: 'torchrun' };
  const place = asked === '1' ? { ...alone, master: { host: '127.0.0.1', port: 0 } } : placeOf(process.env);
  if (!place) {
    const count = asked === 'all' ? countGpus() : Number(asked);
    if (!(count > 1))
      throw Object.assign(new Error(`--gpus ${asked}; expected at least 2 of ${countGpus()}`), { code: 1 });
    process.exit(await launchOnGpus(count, process.argv.slice(1)));
  }
  narrowGpus(place);
  return await joinByNccl(place, { name: 'cuda' }, { identity: process.argv.slice(2), ...settings });
}
