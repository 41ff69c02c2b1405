// Attention's times layer by layer of a trained model, then of random logits, and of queries that all look at every key: without
// block skipping, with it by blocks of queries, and with rows that look far gathered: the forward by levels (flash_levels.cuh) of several
// settings, the backward as it is by default (flash_far.cuh).
import { median } from '@stickbreaking/base';
import * as tf from '@tensorflow/tfjs-core';
import { keepBusy, timeLaunches } from '../gpu.mjs';

const REPETITIONS = 10;
/** Other work of the GPU before one call, and before so many, longer than the host needs to launch them. */
const BUSY_MS = 8;
const BUSY_MS_ALL = 20;

/** `10,40/8`: tiles that the first levels go over, and those of a part at least. */
export function levelsOf(text) {
  const [walks, partTiles] = text.split('/');
  return { from: 1, walks: walks.split(',').map(Number), partTiles: Number(partTiles ?? 8) };
}

export function byLayer({ backend, model, tokens, settings }) {
  const { blockSkipping, levels, farRows } = backend;
  const before = { blockSkipping, levels, farRows };
  const apart = { levels: undefined, farRows: undefined };
  const modes = [
    { name: 'every tile', blockSkipping: false, ...apart },
    { name: 'by blocks', blockSkipping: true, ...apart },
    ...settings.map((text) => ({ name: `by levels ${text}`, blockSkipping: true, levels: levelsOf(text), farRows })),
  ];
  const cuSeqlens = Int32Array.of(0, tokens.length);
  const measured = [];
  const measure = (what, inputs, scale) => {
    let byBlocks;
    for (const { name, ...mode } of modes) {
      Object.assign(backend, mode);
      const attrs = { cuSeqlens, cuSeqlensK: cuSeqlens, scale, attendCurrent: false };
      const { results, ...times } = attentionTimes(backend.driver, inputs, attrs);
      if (mode.blockSkipping) byBlocks ??= results;
      const distances = byBlocks ? results.map((one, i) => distance(one, byBlocks[i])) : [];
      measured.push({ what, mode: name, ...times, distances });
      const cell = ({ backToBack, kernels, ahead }) =>
        `${backToBack.toFixed(3)} (${kernels.map((x) => x.toFixed(3)).join(' + ')})${ahead ? '' : ', host late'}`;
      const away = distances.map((x) => x.toExponential(1)).join(' ');
      const comparison = mode.levels ? `, distances from those by blocks ${away}` : '';
      console.log(`${what}, ${name}: forward ${cell(times.forward)}, backward ${cell(times.backward)}${comparison}`);
    }
    Object.assign(backend, modes[1]);
  };
  Object.assign(backend, modes[1]);
  let layer = 0;
  const observe = ({ q, k, scale }) => measure(`layer ${layer++}`, { q, k, v: k }, scale);
  model.forward(tokens, { cuSeqlens, observe }).dispose();
  for (const { name } of modes) console.log(sumOf(measured, name));

  const shape = [tokens.length, 24, 64];
  const [q, k, v] = [0, 1, 2].map(() => filled(shape, 0, 1));
  measure('random logits, 24 heads', { q, k, v }, 1 / 8);
  tf.dispose([q, k, v]);
  // Logits around -10: a stick lasts for some 20,000 keys.
  const far = [1, -1.25].map((middle) => filled([tokens.length, 6, 64], middle, 0.3 * middle));
  measure('every query far, 6 heads', { q: far[0], k: far[1], v: far[0] }, 1 / 8);
  tf.dispose(far);
  Object.assign(backend, before);
  return measured;
}

/** The distance of x from y, relative in norm. */
function distance(x, y) {
  let [apart, norm] = [0, 0];
  for (let i = 0; i < x.length; i++) {
    apart += (x[i] - y[i]) ** 2;
    norm += y[i] ** 2;
  }
  return Math.sqrt(apart / norm);
}

/**
 * Milliseconds of a call: the mean of some in a row with all that is between them, and of each launch, events around it. And the
 * output, the remainder and the gradient of k.
 */
function attentionTimes(driver, { q, k, v }, attrs) {
  const run = (name, inputs) => tf.engine().runKernel(name, inputs, attrs);
  const forward = () => run('StickBreakingAttention', { q, k, v });
  const [output, remainder, saved] = forward();
  const dRemainder = tf.fill(remainder.shape, 0.01);
  const backward = () => run('StickBreakingAttentionGrad', { q, k, v, remainder, saved, dOutput: q, dRemainder });
  const times = { forward: timesOf(driver, forward), backward: timesOf(driver, backward) };
  const gradients = backward();
  const results = [output, remainder, gradients[1]].map((one) => one.dataSync());
  tf.dispose([output, remainder, saved, dRemainder, ...gradients]);
  return { ...times, results };
}

function timesOf(driver, call) {
  for (let i = 0; i < 2; i++) tf.dispose(call());
  const [start, end] = [driver.createEvent(true), driver.createEvent(true)];
  const busyAt = keepBusy(driver, BUSY_MS_ALL);
  driver.recordEvent(start);
  for (let i = 0; i < REPETITIONS; i++) tf.dispose(call());
  driver.recordEvent(end);
  const enqueued = performance.now();
  driver.synchronize();
  const backToBack = driver.elapsed(start, end) / REPETITIONS;
  for (const event of [start, end]) driver.call('cuEventDestroy_v2', event);
  const timed = Array.from({ length: 3 }, () => {
    const done = timeLaunches(driver, (name) => name.startsWith('flash_'), BUSY_MS);
    // The first call finds other things in the cache than a model's does.
    for (let i = 0; i < 2; i++) tf.dispose(call());
    const { launches, ahead } = done();
    return { launches: launches.slice(launches.length / 2), ahead };
  });
  const launches = timed.map((one) => one.launches.map(({ ms }) => ms));
  return {
    backToBack,
    kernels: launches[0].map((_, i) => median(launches.map((one) => one[i]))),
    ahead: busyAt(enqueued) && timed.every(({ ahead }) => ahead),
  };
}

/** All layers together, and their share of the time in which every tile is computed. */
function sumOf(measured, mode) {
  const sum = (name, way, kernels) =>
    measured
      .filter((one) => one.mode === name)
      .reduce((all, one) => all + (kernels ? one[way].kernels.reduce((x, y) => x + y, 0) : one[way].backToBack), 0);
  const parts = ['forward', 'backward'].map((way) => {
    const cells = [false, true].map((kernels) => {
      const ms = sum(mode, way, kernels);
      return `${ms.toFixed(3)} (${(ms / sum('every tile', way, kernels)).toFixed(3)})`;
    });
    return `${way} ${cells[0]}, by kernels ${cells[1]}`;
  });
  return `all layers, ${mode}: ${parts.join('; ')}`;
}

/** Normal numbers of this mean and deviation, long runs of one noise, each from another place of it. */
function filled(shape, mean, deviation) {
  const noise = Float32Array.from({ length: 2 ** 20 }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - Math.random()));
    return mean + deviation * radius * Math.cos(2 * Math.PI * Math.random());
  });
  const values = new Float32Array(shape.reduce((x, y) => x * y, 1));
  const run = 2 ** 16;
  for (let at = 0; at < values.length; at += run) {
    const from = Math.floor(Math.random() * (noise.length - run));
    values.set(noise.subarray(from, from + Math.min(run, values.length - at)), at);
  }
  return tf.tensor(values, shape);
}
