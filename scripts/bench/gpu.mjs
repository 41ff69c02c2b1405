// What every bench on a GPU begins with, and how one that cannot go on ends: one line, exit code 1.
import * as tf from '@tensorflow/tfjs-core';
import { openCuda } from '../../packages/core/dist/backends/cuda/index.js';

/** Opens the GPU, makes it TensorFlow.js's backend and says which it is; its `backend`. */
export async function openGpu() {
  endInOneLine();
  const { backend, description } = openCuda();
  tf.setBackend('cuda');
  await tf.ready();
  console.log(description);
  return backend;
}

/** From here on a mistake of the user's (a missing file, no GPU, too little memory) is told without a stack trace. */
export function endInOneLine() {
  process.on('uncaughtException', (error) => {
    const theirs = error.name === 'UserError' || error.code !== undefined;
    console.error(theirs ? error.message : error.stack);
    process.exit(1);
  });
}
