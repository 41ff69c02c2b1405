// `npm run bench -- run --gpus 4`: what a run of sb-train takes from its start to the end of its first step, and what saving costs
// the steps that go on meanwhile. Text is made up, and in tokens before the clock runs; kernels are compiled by the run before,
// unless the cache has them. Writes run-….json.
// Options: --gpus n | --processes n (CPU) --config 1b --steps 24 --save-every 8 --set "key=value …" (more overrides)
// --folder DIR (default: where temporary files go; a checkpoint of the 1B model is 14.5 GB, and two are there at a time)
// --bin FOLDER (of a bundle) --out benchmarks
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median, seededRandom } from '@stickbreaking/base';
import { readMetrics } from '@stickbreaking/train';
import { machine } from './measure.mjs';

const { values: o } = parseArgs({
  options: {
    gpus: { type: 'string' },
    processes: { type: 'string' },
    config: { type: 'string', default: '1b' },
    steps: { type: 'string', default: '24' },
    'save-every': { type: 'string', default: '8' },
    set: { type: 'string', default: '' },
    folder: { type: 'string', default: tmpdir() },
    bin: { type: 'string' },
    out: { type: 'string', default: 'benchmarks' },
  },
});
const [steps, saveEvery] = [Number(o.steps), Number(o['save-every'])];
const root = mkdtempSync(join(o.folder, 'run-'));
process.on('exit', () => rmSync(root, { recursive: true, force: true }));

function command(name, args) {
  const [program, ...first] = o.bin
    ? [join(o.bin, name)]
    : [process.execPath, fileURLToPath(new URL(`../../packages/stickbreaking/bin/${name}.js`, import.meta.url))];
  const { status, stderr } = spawnSync(program, [...first, ...args], {
    encoding: 'utf8',
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  if (status === 0) return;
  console.error(stderr.trim().split('\n').slice(-5).join('\n'));
  process.exit(1);
}

const text = join(root, 'text.jsonl');
const random = seededRandom(1, 'run');
const file = createWriteStream(text);
for (let i = 0; i < 4000; i++) {
  const words = Array.from({ length: 100 + random.integer(400) }, () => `w${random.integer(40) * random.integer(60)}`);
  file.write(`${JSON.stringify({ text: words.join(' ') })}\n`);
}
file.end();
await once(file, 'finish');
const tokenizer = join(root, 'tokenizer.json');
command('sb-tokenizer', ['train', '--data', text, '--vocab-size', '512', '--output', tokenizer]);

const how = [
  ...(o.gpus ? ['--gpus', o.gpus, '--backend', 'cuda'] : []),
  ...(o.processes ? ['--processes', o.processes, '--backend', 'native'] : []),
];
const data = `[{path: ${text}}]`;
const overrides = [
  ...[
    `tokenizer=${tokenizer}`,
    `shards=${join(root, 'tokens')}`,
    'checkpoints.keepLast=1',
    'checkpoints.keepBest=false',
  ],
  ...[`checkpoints.everySteps=${saveEvery}`, `validation={data: ${data}, tokens: 16384, everySteps: 1000000}`],
  `stages=[{steps: ${steps}, schedule: {kind: constant, peak: 1e-4}, data: ${data}}]`,
  ...o.set.split(' ').filter(Boolean),
];
function train(name, more) {
  const output = join(root, name);
  const started = Date.now();
  command('sb-train', ['--config', o.config, ...how, `output=${output}`, ...overrides, ...more]);
  return { output, started, ended: Date.now() };
}
train('before', ['stages.0.steps=1', 'checkpoints.everySteps=1000', 'model.numLayers=1']);
rmSync(join(root, 'before'), { recursive: true });
const { output, started, ended } = train('run', []);

const lines = readMetrics(join(output, 'metrics.jsonl')).filter((line) => 'loss' in line);
const times = lines.map(({ time }) => Date.parse(time));
/** Of every step but the first, from the end of the one before it. */
const all = times.slice(1).map((time, i) => ({ step: lines[i + 1].step, ms: time - times[i] }));
const after = ({ step }) => (step - 1) % saveEvery; // steps since a save was begun; 0: the one after it
const isDuring = (one) => one.step > saveEvery && after(one) < saveEvery / 2;
const usual = median(all.filter((one) => !isDuring(one) && one.step > 3).map(({ ms }) => ms));
const saves = all.filter((one) => one.step > saveEvery && after(one) === 0).map((one) => one.ms - usual);
const during = median(all.filter((one) => isDuring(one) && after(one) > 0).map(({ ms }) => ms));
const report = {
  command: `npm run bench -- run ${process.argv.slice(2).join(' ')}`,
  ...machine(how.join(' ')),
  config: o.config,
  startSeconds: (times[0] - started) / 1e3,
  stepMs: usual,
  stallMs: saves,
  stepMsWhileSaving: during,
  wholeSeconds: (ended - started) / 1e3,
  steps: all,
};
mkdirSync(o.out, { recursive: true });
const name = ['run', basename(o.config, '.yaml'), o.gpus ? `${o.gpus}-gpus` : `${o.processes ?? 1}-processes`].join(
  '-',
);
writeFileSync(join(o.out, `${name}.json`), `${JSON.stringify(report, null, 2)}\n`);
console.log(
  `${report.startSeconds.toFixed(1)} s to the end of the first step; a step ${usual} ms, after a save began ` +
    `${saves.map((ms) => `${ms >= 0 ? '+' : ''}${ms}`).join(', ')} ms, while it is written ${during} ms`,
);
