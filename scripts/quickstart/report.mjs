/** The quickstart's report: the two loss curves, and the two perplexity curves past the training length. */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { writeReport } from '@stickbreaking/eval';

/** Loss by tokens of a run, averaged over a few steps so that two curves can be told apart. */
function lossCurve(run) {
  const steps = readFileSync(`${run}/metrics.jsonl`, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter(({ loss }) => typeof loss === 'number');
  const width = Math.max(1, Math.floor(steps.length / 60));
  const points = [];
  for (let begin = 0; begin + width <= steps.length; begin += width) {
    const window = steps.slice(begin, begin + width);
    points.push({ x: window.at(-1).tokens, y: window.reduce((sum, { loss }) => sum + loss, 0) / width });
  }
  return points;
}

export function writeQuickstartReport({ models, backend, size, text, elapsed }) {
  const path = 'quickstart/report.html';
  const columns = ['length', ...models.map(({ name }) => `perplexity, ${name}`)];
  const rows = models[0].results.map(({ length }, i) => [
    length,
    ...models.map(({ results }) => results[i].perplexity.toFixed(2)),
  ]);
  const final = models.map(({ name, run }) => [name, lossCurve(run).at(-1).y.toFixed(4)]);
  writeReport(path, {
    title: 'Stick-breaking and softmax+RoPE past their training length',
    blocks: [
      {
        kind: 'text',
        text: `Two small LLaMA-style models, alike but for their attention, trained on State of the Union addresses at a context of ${size.contextLength} tokens and evaluated on addresses they have not seen (${text.years}), as one stream cut into windows of each length.`,
      },
      { kind: 'heading', text: 'Perplexity by context length' },
      {
        kind: 'curves',
        caption: 'Lower is better. Beyond the dotted line no model has been trained.',
        xLabel: 'context length (tokens)',
        yLabel: 'perplexity',
        xLog2: true,
        yLog: true,
        mark: { x: size.contextLength, label: 'training length' },
        curves: models.map(({ name, results }) => ({
          name,
          points: results.map(({ length, perplexity }) => ({ x: length, y: perplexity })),
        })),
      },
      { kind: 'table', columns, rows },
      { kind: 'heading', text: 'Training loss' },
      {
        kind: 'curves',
        caption: 'Mean loss in nats per token.',
        xLabel: 'tokens seen',
        yLabel: 'loss',
        curves: models.map(({ name, run }) => ({ name, points: lossCurve(run) })),
      },
      { kind: 'table', columns: ['model', 'loss at the end'], rows: final },
      { kind: 'heading', text: 'What was run' },
      {
        kind: 'facts',
        facts: [
          ['backend', backend.description],
          ['processor', `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} threads`],
          ['size', size.said],
          ['time', `${elapsed} s, from text to this report`],
          ['command', 'npm run quickstart'],
        ],
      },
    ],
  });
  const cells = [columns, ...rows.map((row) => row.map(String))];
  const widths = columns.map((_, c) => Math.max(...cells.map((row) => row[c].length)));
  const table = cells.map((row) => row.map((cell, c) => cell.padStart(widths[c])).join('   ')).join('\n');
  return { path, table };
}
