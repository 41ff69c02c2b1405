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
    const { kernels: _, losses: _losses, turns: _turns, ...row } = JSON.parse(readFileSync(join(inPart, file), 'utf8'));
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
}

const lossesOf = (name) => {
  const file = join(folder, `agree-${name}.jsonl`);
  return existsSync(file) ? readMetrics(file).flatMap((line) => ('loss' in line ? [line.loss] : [])) : [];
};
/** How far losses are from those of one GPU; null where they are not there, or are more. */
function differenceFrom(first, losses) {
  if (losses.length === 0 || losses.length > first.length) return null;
  const differences = losses.map((loss, i) => Math.abs(loss - first[i]));
  const largest = Math.max(...differences);
  const mean = differences.reduce((sum, one) => sum + one, 0) / losses.length;
  return { steps: losses.length, largest, atStep: differences.indexOf(largest) + 1, mean };
}
const differences = (names, prefix = '') =>
  Object.fromEntries(names.map((name) => [name, differenceFrom(lossesOf(`${prefix}1`), lossesOf(`${prefix}${name}`))]));
const agree = differences(['2', 'all', 'context', 'gradients', 'weights']);
const agreeOrdered = differences(['2', 'all'], 'ordered-');
/** Whether files of runs have the same sums as those of the first, by the runs' names. */
function equalSums(name, runs) {
  const lines = text(name)
    .trim()
    .split('\n')
    .map((line) => line.split(/\s+/));
  const sumsOf = (run) => lines.flatMap(([sum, file = '']) => (file.startsWith(`${run}/`) ? [sum] : []));
  const [first, ...others] = runs.map(sumsOf);
  return others.map((one) => first.length === 2 && first.join() === one.join());
}
const [twice, resumed] = equalSums('bits.txt', ['bits-1', 'bits-2', 'bits-3']);
const [orderedOnTwo, orderedOnAll] = equalSums('ordered.txt', ['ordered-1', 'ordered-2', 'ordered-all']);
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
  differenceInLossWithOrderedSums: agreeOrdered,
  equalBits: { twice, resumed, orderedOnTwo, orderedOnAll },
  killed: killedMs ? { goneAfterMs: Number(killedMs), exitCode: Number(code), said } : null,
};
writeFileSync(join(folder, 'eight.json'), `${JSON.stringify(result, null, 2)}\n`);
for (const row of rows) {
  const { part, file, gpus: n, msPerStep, tokensPerSecond, ofAsManyTimesOneGpu: of, exposedMs, peakGiB } = row;
  console.log(
    `${part.padEnd(5)}${file.slice(11, -5).padEnd(50)} ${msPerStep.toFixed(1)} ms ${tokensPerSecond.toFixed(0)} tokens/s ` +
      `${of ? `${(100 * of).toFixed(1)} % ` : ''}${n === 1 ? '' : `exposed ${exposedMs.toFixed(1)} ms `}${peakGiB.toFixed(1)} GiB`,
  );
}
for (const { what, gpus: n, msPerStep, tokensPerSecond, peakGiB } of pytorch)
  console.log(`PyTorch ${what}, ${n} GPUs: ${msPerStep} ms ${tokensPerSecond} tokens/s ${peakGiB} GiB`);
console.log(JSON.stringify({ agree, agreeOrdered, bits: result.equalBits, killed: result.killed }));
