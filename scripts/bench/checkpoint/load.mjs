// node load.mjs DIRECTORY summed|plain: a run's checkpoint, loaded with or without its checksums being verified, as a run that
// goes on does it. Prints what it took as JSON: the most memory too, and how many pieces the main thread handed to threads that sum.
import { join } from 'node:path';
import { peakMemory } from '@stickbreaking/base/node';
import { selectBackend } from '@stickbreaking/core';
import {
  LlamaModel,
  loadVerified,
  OPTIMIZER_FILE,
  piecesHandedOver,
  readSafetensors,
  readSummed,
} from '@stickbreaking/model';
import { Optimizer, OptimizerSchema } from '@stickbreaking/train';
import { timed } from './timed.mjs';

const [directory, kind] = process.argv.slice(2);
await selectBackend('native');
const times = await timed(() =>
  loadVerified(directory, kind === 'summed' ? {} : undefined, async (summed) => {
    if (kind === 'summed' && !summed) throw new Error('it has no checksums');
    const { parameters } = await LlamaModel.loadAsync(directory, { summed });
    const optimizer = new Optimizer(parameters, OptimizerSchema.parse({}), { restored: true });
    const path = join(directory, OPTIMIZER_FILE);
    const file = readSafetensors(path);
    await readSummed(path, file, (name, values) => optimizer.restore(name, values), { summed });
    file.close();
  }),
);
console.log(JSON.stringify({ ...times, memoryBytes: peakMemory(), handedOver: piecesHandedOver() }));
