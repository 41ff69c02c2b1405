// Two runs of one configuration, on different backends, held against each other step by step:
//   node scripts/bench/agree.mjs RUN_A/metrics.jsonl RUN_B/metrics.jsonl [--within 0.02] [--out FILE]
// Prints the largest difference of the training losses in nats; exit code 1 where it exceeds `--within`.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { readMetrics } from '@stickbreaking/train';
import './gpu.mjs'; // ends in one line

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { within: { type: 'string', default: '0.02' }, out: { type: 'string' } },
});
if (positionals.length !== 2) {
  console.error(
    'usage: node scripts/bench/agree.mjs RUN_A/metrics.jsonl RUN_B/metrics.jsonl [--within 0.02] [--out FILE]',
  );
  process.exit(1);
}
const [a, b] = positionals.map((file) => readMetrics(file).filter((line) => 'loss' in line));
if (a.length !== b.length || a.length === 0) {
  console.error(`The runs have ${a.length} and ${b.length} steps; run both to the same step.`);
  process.exit(1);
}
const differences = a.map(({ loss }, i) => Math.abs(loss - b[i].loss));
const largest = Math.max(...differences);
const at = a[differences.indexOf(largest)].step;
const mean = differences.reduce((sum, one) => sum + one, 0) / differences.length;
const result = {
  steps: a.length,
  first: [a[0].loss, b[0].loss],
  last: [a.at(-1).loss, b.at(-1).loss],
  largestDifference: largest,
  atStep: at,
  meanDifference: mean,
};
if (values.out) {
  const curves = { a: a.map(({ loss }) => loss), b: b.map(({ loss }) => loss) };
  writeFileSync(values.out, `${JSON.stringify({ ...result, ...curves })}\n`);
}
console.log(
  `${a.length} steps: ${a[0].loss.toFixed(4)} → ${a.at(-1).loss.toFixed(4)} and ${b[0].loss.toFixed(4)} → ${b.at(-1).loss.toFixed(4)} nats; ` +
    `largest difference ${largest.toFixed(4)} at step ${at}, mean ${mean.toFixed(4)}`,
);
process.exitCode = largest <= Number(values.within) ? 0 : 1;
