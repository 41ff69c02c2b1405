// `npm run bench -- checkpoint`: what the checksums of a checkpoint cost. A model and its optimizer are saved and loaded with
// and without them, in turns, as a run does it: saved again and again by one process, and loaded once by a process of its own.
// Writes benchmarks/checkpoint.json.
// Options: --config NAME (a run file, default 350m) --layers N (in place of its own) --pairs N --folder DIR (default: where
// temporary files go)

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { LlamaModel, MODEL_FILE, OPTIMIZER_FILE, writeSafetensorsAsync } from '@stickbreaking/model';
import { CheckpointStore, loadRunConfig, Optimizer, OptimizerSchema } from '@stickbreaking/train';
import { timed } from './checkpoint/timed.mjs';
import { machine, writeReport } from './measure.mjs';

const { values } = parseArgs({
  options: {
    config: { type: 'string', default: '350m' },
    layers: { type: 'string' },
    pairs: { type: 'string', default: '8' },
    folder: { type: 'string', default: tmpdir() },
  },
});
const root = mkdtempSync(join(values.folder, 'checkpoint-'));
process.on('exit', () => rmSync(root, { recursive: true, force: true }));

const { description } = await selectBackend('native');
const { model: sizes } = loadRunConfig(values.config, values.layers ? [`model.numLayers=${values.layers}`] : []);
const model = LlamaModel.create(sizes);
const optimizer = new Optimizer(model.parameters, OptimizerSchema.parse({}));
const zero = { step: 1, updates: 1, tokens: 1, stage: 0, stageStep: 1, nonFiniteSteps: 0, seed: 0 };
const state = { version: 1, ...zero, cursor: null, best: null, identity: {} };

/** Without sums, zeros stand for them: all else is the same, and who loads it without verifying sees no difference. */
async function writeTensors(directory, checksum) {
  const moments = [...optimizer.state()].map(([name, moment]) => {
    return { name, shape: moment.shape, values: () => moment.dataSync() };
  });
  const weights = await model.saveAsync(directory, { checksum });
  const rest = await writeSafetensorsAsync(join(directory, OPTIMIZER_FILE), moments, { checksum });
  const none = { bytes: 0, sum: '0'.repeat(32) };
  return new Map([
    [MODEL_FILE, weights ?? none],
    [OPTIMIZER_FILE, rest ?? none],
  ]);
}

const folder = (kind) => join(root, kind);
const checkpoint = (kind) => join(folder(kind), 'step-00000001');
const save = (kind) =>
  new CheckpointStore(folder(kind), { last: 1, best: false }).save({
    state,
    writeTensors: (directory) => writeTensors(directory, kind === 'summed'),
  });

const loader = fileURLToPath(new URL('checkpoint/load.mjs', import.meta.url));
const load = (kind) =>
  JSON.parse(execFileSync(process.execPath, [loader, checkpoint(kind), kind], { encoding: 'utf8' }));

/** Whatever was read or written is read from the disk again. */
function emptyPageCache() {
  execFileSync('sync');
  writeFileSync('/proc/sys/vm/drop_caches', '1');
}
function canEmptyPageCache() {
  try {
    emptyPageCache();
    return true;
  } catch {
    return false; // not root, or in a container whose /proc/sys is read-only
  }
}
const canEmpty = process.platform === 'linux' && canEmptyPageCache();

const times = Object.fromEntries(
  ['save', 'load', ...(canEmpty ? ['loadFromDisk'] : [])].map((what) => [what, { summed: [], plain: [] }]),
);
for (let pair = 0; pair <= Number(values.pairs); pair++) {
  const order = pair % 2 === 0 ? ['summed', 'plain'] : ['plain', 'summed'];
  for (const kind of order) {
    // Of both kinds: whoever came behind the other's files would be given memory that was not in use before.
    const clear = () => {
      for (const one of order) rmSync(folder(one), { recursive: true, force: true });
    };
    // Saved twice: the second finds memory that was in use just now, which a virtual machine may have to ask its host for.
    clear();
    await save(kind);
    clear();
    const saved = await timed(() => save(kind));
    const loaded = load(kind);
    if (canEmpty) emptyPageCache();
    const fromDisk = canEmpty ? load(kind) : undefined;
    if (pair === 0) continue; // warms up
    times.save[kind].push(saved);
    times.load[kind].push(loaded);
    if (fromDisk) times.loadFromDisk[kind].push(fromDisk);
    const said = ({ seconds, cpuSeconds }) => `${seconds.toFixed(2)} s (${cpuSeconds.toFixed(2)} s of processors)`;
    const loadedIn = (one) => said(one) + (one.handedOver > 0 ? `, ${one.handedOver} pieces summed by threads` : '');
    const disk = fromDisk ? `, from the disk in ${loadedIn(fromDisk)}` : '';
    console.log(`pair ${pair}, ${kind}: saved in ${said(saved)}, loaded in ${loadedIn(loaded)}${disk}`);
  }
}

const last = Number(values.pairs) % 2 === 0 ? 'plain' : 'summed'; // alone there still
const bytes = (name) => statSync(join(checkpoint(last), name)).size;
const result = { modelBytes: bytes(MODEL_FILE), optimizerBytes: bytes(OPTIMIZER_FILE) };
const of = (key, runs) => runs.map((run) => run[key]);
for (const [what, { summed, plain }] of Object.entries(times)) {
  const cost = (key) => median(summed.map((one, i) => one[key] / plain[i][key])) - 1;
  result[what] = {
    summedSeconds: of('seconds', summed),
    plainSeconds: of('seconds', plain),
    summedCpuSeconds: of('cpuSeconds', summed),
    plainCpuSeconds: of('cpuSeconds', plain),
    medianSummed: median(of('seconds', summed)),
    medianPlain: median(of('seconds', plain)),
    cost: cost('seconds'),
    cpuCost: cost('cpuSeconds'),
    ...(what === 'save' ? {} : { summedHandedOver: of('handedOver', summed) }),
  };
  const { medianSummed, medianPlain, cost: lost } = result[what];
  console.log(
    `${what}: ${medianSummed.toFixed(2)} s with checksums, ${medianPlain.toFixed(2)} without: ${(100 * lost).toFixed(1)} %`,
  );
}
writeReport('checkpoint', { ...machine(description), config: values.config, layers: sizes.numLayers, ...result });
