// What every bench on a GPU begins with, and how one that cannot go on ends: one line, exit code 1.

import { openCuda } from '@stickbreaking/core/cuda';
import * as tf from '@tensorflow/tfjs-core';

// A mistake of the user's (an unknown option, a missing file, no GPU, too little memory) is told without a stack trace, from
// the moment this is imported.
process.on('uncaughtException', (error) => {
  const theirs = error.name === 'UserError' || error.code !== undefined;
  console.error(theirs ? error.message : error.stack);
  process.exit(1);
});

/** Opens the GPU, makes it TensorFlow.js's backend and says which it is; its `backend`. */
export async function openGpu() {
  const { backend, description } = openCuda();
  tf.setBackend('cuda');
  await tf.ready();
  console.log(description);
  return backend;
}

/** The command as it was given, but for where its numbers go; kept with them. */
export function commandGiven(name, out) {
  return [`npm run bench -- ${name}`, ...process.argv.slice(2).filter((one) => one !== '--out' && one !== out)].join(
    ' ',
  );
}
