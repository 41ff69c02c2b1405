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

const BUSY_BYTES = 2 ** 30;
let busyWork;
/**
 * Gives the GPU some `ms` milliseconds of other work (a memory filled with zeros over and over, which heats the card less than matmuls
 * would), so that what is launched next lies in its queue before it comes to it: events around a kernel then time the kernel, rather than
 * how late the host is. The function that it returns says, once the GPU was waited for, whether it was still at that work `at`
 * (performance.now()), when the last launch had been made.
 */
export function keepBusy(driver, ms) {
  const work = () => driver.call('cuMemsetD8Async', busyWork.address, 0, BUSY_BYTES, driver.stream);
  const between = (run) => {
    const [start, end] = [driver.createEvent(true), driver.createEvent(true)];
    driver.recordEvent(start);
    run();
    driver.recordEvent(end);
    return () => {
      const took = driver.elapsed(start, end);
      for (const event of [start, end]) driver.call('cuEventDestroy_v2', event);
      return took;
    };
  };
  if (!busyWork) {
    // Not a tensor: whoever comes first may be within a tidy.
    busyWork = { address: driver.allocate(BUSY_BYTES) };
    work();
    busyWork.ms = between(work)();
  }
  driver.synchronize();
  const from = performance.now();
  const took = between(() => {
    for (let i = 0; i < Math.ceil(ms / busyWork.ms); i++) work();
  });
  return (at) => at - from < took();
}

/**
 * Times what is launched from here on, an event on either side of each. The function that it returns ends that, waits, and gives
 * each launch's name and milliseconds, and those from the first one's start to the last one's end.
 *
 * @param busyMs other work that the GPU is given first: see `keepBusy`. `ahead` then says whether that was enough.
 */
export function timeLaunches(driver, wanted = () => true, busyMs = 0) {
  const spans = [];
  const busyAt = busyMs > 0 ? keepBusy(driver, busyMs) : undefined;
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
    const enqueued = performance.now();
    driver.synchronize();
    const ahead = busyAt?.(enqueued);
    const launches = spans.map(({ name, start, end }) => ({ name, ms: driver.elapsed(start, end) }));
    const whole = spans.length > 0 ? driver.elapsed(spans[0].start, spans.at(-1).end) : 0;
    for (const { start, end } of spans) for (const event of [start, end]) driver.call('cuEventDestroy_v2', event);
    return { launches, whole, ahead };
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
