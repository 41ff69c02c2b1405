// `npm run bench -- cpu`: the native CPU backend side by side with OpenBLAS, tfjs's own backends and the reference kernels, in
// one run. Prints ratios and writes all of it to benchmarks/cpu.json.
import { parseArgs } from 'node:util';
import { UserError } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { benchAttention } from './cpu/attention.mjs';
import { benchLongContexts } from './cpu/long.mjs';
import { benchProducts } from './cpu/products.mjs';
import { benchTraining } from './cpu/training.mjs';
import { machine, writeReport } from './measure.mjs';

const sections = {
  products: benchProducts,
  attention: benchAttention,
  training: benchTraining,
  long: benchLongContexts,
};

function readOptions() {
  try {
    return parseArgs({
      options: {
        only: { type: 'string', default: Object.keys(sections).join(',') },
        checkpoint: { type: 'string' },
        data: { type: 'string' },
        lengths: { type: 'string', default: '2048..65536' },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}

const options = readOptions();
const chosen = options.only.split(',');
const unknown = chosen.find((one) => !Object.hasOwn(sections, one));
if (options.help || unknown) {
  if (unknown) console.error(`--only: '${unknown}' is not a section.`);
  console.error(`usage: npm run bench -- cpu [--only ${Object.keys(sections).join(',')}]
  [--checkpoint DIR] [--data FILE] [--lengths 2048..65536]   a trained model and its text for the long contexts;
                                                             default: the quickstart's, trained first where it is not`);
  process.exit(unknown ? 1 : 0);
}

try {
  const { description } = await selectBackend('native');
  console.log(description);
  const report = machine(description);
  for (const name of chosen) report[name] = await sections[name](options);
  writeReport(chosen.length === Object.keys(sections).length ? 'cpu' : `cpu-${chosen.join('-')}`, report);
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
