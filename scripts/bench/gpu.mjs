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

/** The command as it was given, but for where its numbers go; kept with them. */
export function commandGiven(name, out) {
  return [`npm run bench -- ${name}`, ...process.argv.slice(2).filter((one) => one !== '--out' && one !== out)].join(
    ' ',
  );
}

/**
 * Starts this program once for each of so many GPUs and ends when they do; in those it joins the others.
 *
 * @param silent collectives do nothing, for all but single numbers
 */
export async function joinGpus(asked, silent = false) {
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
  return await joinByNccl(place, { name: 'cuda' }, { identity: process.argv.slice(2), silent });
}
