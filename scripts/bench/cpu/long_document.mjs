// One document of LENGTH tokens through a checkpoint's model, without gradients; prints JSON: seconds, peak memory, and
// the share of key blocks that stick-breaking attention went to. long_document.mjs CHECKPOINT DATA LENGTH on|off
import { peakMemory } from '@stickbreaking/base/node';
import { selectBackend } from '@stickbreaking/core';
import { setBlockSkipping } from '@stickbreaking/core/native';
import { openCheckpoint, readText, scorerOf } from '@stickbreaking/eval';
import * as tf from '@tensorflow/tfjs-core';

// The bench shows the last line of what this program says.
process.on('uncaughtException', (error) => {
  console.error(error.message.split('\n')[0]);
  process.exit(1);
});

const blockRows = 64;
const [checkpoint, data, lengthText, skipping] = process.argv.slice(2);
const length = Number(lengthText);
await selectBackend('native');
setBlockSkipping(skipping === 'on');
const { model, tokenizer } = await openCheckpoint(checkpoint);

const stream = [];
for (const { text } of await readText(data)) {
  for (const token of tokenizer.encode(text)) stream.push(token);
  stream.push(tokenizer.eosId);
  if (stream.length > length) break;
}
if (stream.length <= length) {
  console.error(`${data} has ${stream.length} tokens, too few for ${length}`);
  process.exit(1);
}
const part = (begin) => Int32Array.from(stream.slice(begin, begin + length));

// Where each block of queries stopped is the kernel's third output.
const visited = { blocks: 0, all: 0 };
const kernel = tf.getKernel('StickBreakingAttention', 'native');
const run = kernel.kernelFunc;
kernel.kernelFunc = (args) => {
  const outputs = run(args);
  const [blocks, heads] = outputs[2].shape;
  const stops = args.backend.readSync(outputs[2].dataId);
  const last = args.attrs.attendCurrent ? 0 : 1;
  for (let b = 0; b < blocks; b++) {
    const end = Math.ceil((Math.min(length, (b + 1) * blockRows) - last) / blockRows);
    for (let h = 0; h < heads; h++) visited.blocks += end - stops[b * heads + h];
    visited.all += end * heads;
  }
  return outputs;
};

const before = peakMemory();
const start = performance.now();
const losses = await scorerOf(model)({ tokens: part(0), targets: part(1), cuSeqlens: Int32Array.of(0, length) });
const seconds = (performance.now() - start) / 1000;
const loss = losses.reduce((sum, one) => sum + one, 0) / length;
const visitedShare = visited.blocks / visited.all;
console.log(JSON.stringify({ seconds, peakBytes: peakMemory(), ownBytes: peakMemory() - before, loss, visitedShare }));
