// What the steps of eight.sh said, as one table and as FOLDER/eight.json: node scripts/bench/eight.mjs FOLDER GPUS
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readMetrics } from '@stickbreaking/train';

const [folder, count] = process.argv.slice(2);
const gpus = Number(count);
const text = (name) => (existsSync(join(folder, name)) ? readFileSync(join(folder, name), 'utf8') : '');

/** A bench's JSON files of one part, without the long lists. */
const rows = ['one', 'half', 'all'].flatMap((part) => {
  const inPart = join(folder, part);
  const files = existsSync(inPart) ? readdirSync(inPart).filter((file) => file.startsWith('cuda-train')) : [];
  return files.map((file) => {
    const { kernels: _, losses: _losses, ...row } = JSON.parse(readFileSync(join(inPart, file), 'utf8'));
    return { part, file, ...row };
  });
});
const kindOf = ({ attention, blockSkipping, layers, parameters, sequenceLength }) =>
  [
    attention,
    blockSkipping || attention !== 'stick-breaking' ? '' : 'every tile',
    layers,
    parameters,
    sequenceLength,
  ].join(' ');
for (const row of rows) {
  const one = rows.find((other) => other.part === 'one' && kindOf(other) === kindOf(row));
  if (one && row.part !== 'one') row.ofAsManyTimesOneGpu = row.tokensPerSecond / (row.gpus * one.tokensPerSecond);
  if (row.gpus > 1) row.exposedMs = row.msPerStep - row.msPerStepWithoutCommunication;
}

const lossesOf = (name) => {
  const file = join(folder, `agree-${name}.jsonl`);
  return existsSync(file) ? readMetrics(file).flatMap((line) => ('loss' in line ? [line.loss] : [])) : [];
};
const first = lossesOf('1');
const agree = Object.fromEntries(
  ['2', 'all', 'context', 'gradients', 'weights'].map((name) => {
    const losses = lossesOf(name);
    if (losses.length === 0 || losses.length > first.length) return [name, null];
    const differences = losses.map((loss, i) => Math.abs(loss - first[i]));
    const largest = Math.max(...differences);
    const mean = differences.reduce((sum, one) => sum + one, 0) / losses.length;
    return [name, { steps: losses.length, largest, atStep: differences.indexOf(largest) + 1, mean }];
  }),
);
const sums = text('bits.txt')
  .trim()
  .split('\n')
  .map((line) => line.split(/\s+/));
const sumsOf = (run) => sums.flatMap(([sum, file = '']) => (file.startsWith(`bits-${run}/`) ? [sum] : []));
const same = (run) => sumsOf(1).length === 2 && sumsOf(1).join() === sumsOf(run).join();
const [, killedMs, code, said] = /^(\d+) ms code (\d+) (.*)/.exec(text('kill.txt')) ?? [];
const pytorch = ['one', 'ddp', 'fsdp'].flatMap((name) => {
  const [, what, processes, ms, , all, peak] =
    /(\w+) (\d+) GPUs: ([\d.]+) ms a step, (\d+) tokens\/s a GPU, (\d+) in all, peak ([\d.]+) GiB/.exec(
      text(`pytorch-${name}.log`),
    ) ?? [];
  if (!what) return [];
  return [{ what, gpus: +processes, msPerStep: +ms, tokensPerSecond: +all, peakGiB: +peak }];
});
const nccl = text(`all/nccl-${gpus}.json`);
const result = {
  command: `scripts/bench/eight.sh --gpus ${gpus}`,
  date: new Date().toISOString(),
  gpu: rows[0]?.gpu,
  gpus,
  steps: text('steps.txt')
    .trim()
    .split('\n')
    .map((line) => line.split(' '))
    .map(([name, exit, seconds]) => ({ name, exit: Number(exit), seconds: Number(seconds) })),
  training: rows,
  pytorch,
  nccl: nccl ? JSON.parse(nccl).results : [],
  differenceInLossFromOneGpu: agree,
  equalBits: { twice: same(2), resumed: same(3) },
  killed: killedMs ? { goneAfterMs: Number(killedMs), exitCode: Number(code), said } : null,
};
writeFileSync(join(folder, 'eight.json'), `${JSON.stringify(result, null, 2)}\n`);
for (const row of rows) {
  const { part, file, msPerStep, tokensPerSecond, ofAsManyTimesOneGpu: of, exposedMs, peakGiB } = row;
  console.log(
    `${part.padEnd(5)}${file.slice(11, -5).padEnd(50)} ${msPerStep.toFixed(1)} ms ${tokensPerSecond.toFixed(0)} tokens/s ` +
      `${of ? `${(100 * of).toFixed(1)} % ` : ''}${exposedMs === undefined ? '' : `exposed ${exposedMs.toFixed(1)} ms `}${peakGiB.toFixed(1)} GiB`,
  );
}
for (const { what, gpus: n, msPerStep, tokensPerSecond, peakGiB } of pytorch)
  console.log(`PyTorch ${what}, ${n} GPUs: ${msPerStep} ms ${tokensPerSecond} tokens/s ${peakGiB} GiB`);
console.log(JSON.stringify({ agree, bits: result.equalBits, killed: result.killed }));
