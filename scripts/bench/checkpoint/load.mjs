// node load.mjs DIRECTORY summed|plain: a run's checkpoint, loaded with or without its checksums being verified, as a run that
// goes on does it. Prints what it took as JSON, the most memory included.
import { join } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import { LlamaModel, OPTIMIZER_FILE, readSafetensors, verifyChecksums } from '@stickbreaking/model';
import { Optimizer, OptimizerSchema } from '@stickbreaking/train';
import { timed } from './timed.mjs';

const [directory, kind] = process.argv.slice(2);
await selectBackend('native');
const times = await timed(async () => {
  const verified = kind === 'summed' ? verifyChecksums(directory) : undefined;
  const { parameters } = LlamaModel.load(directory);
  const optimizer = new Optimizer(parameters, OptimizerSchema.parse({}));
  const file = readSafetensors(join(directory, OPTIMIZER_FILE));
  optimizer.restore((name) => file.read(name));
  file.close();
  if (verified && !(await verified)) throw new Error('it has no checksums');
});
console.log(JSON.stringify({ ...times, memoryBytes: process.resourceUsage().maxRSS * 1024 }));
