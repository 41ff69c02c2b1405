/** The quickstart's report: the two perplexity curves past the training length, and the two loss curves. */
import { cpus } from 'node:os';
import { alignColumns } from '@stickbreaking/base';
import { writePictures, writeReport } from '@stickbreaking/eval';
import { readMetrics } from '@stickbreaking/train';

/** Loss by tokens of a run, averaged over a few steps so that two curves can be told apart. */
function lossCurve(run) {
  const steps = readMetrics(`${run.output}/metrics.jsonl`).filter(({ loss }) => typeof loss === 'number');
  const width = Math.max(1, Math.floor(steps.length / 60));
  const points = [];
  for (let begin = 0; begin + width <= steps.length; begin += width) {
    const window = steps.slice(begin, begin + width);
    points.push({ x: window.at(-1).tokens, y: window.reduce((sum, { loss }) => sum + loss, 0) / width });
  }
  return points;
}

/** One sentence a model: its perplexity at the training length and at the longest. */
function findingOf({ name, results }) {
  const [first, last] = [results[0], results.at(-1)];
  const change = 100 * (last.perplexity / first.perplexity - 1);
  const word = change < 0 ? 'falls' : 'rises';
  return `${name}: perplexity ${word} by ${Math.abs(change).toFixed(0)} % from ${first.length} tokens (${first.perplexity.toFixed(1)}) to ${last.length} (${last.perplexity.toFixed(1)}).`;
}

export function writeQuickstartReport({ models, backend, size, text, contextLength, elapsed }) {
  const path = 'quickstart/report.html';
  const columns = ['length', ...models.map(({ name }) => `perplexity, ${name}`)];
  const rows = models[0].results.map(({ length }, i) => [
    length,
    ...models.map(({ results }) => results[i].perplexity.toFixed(2)),
  ]);
  const final = models.map(({ name, run }) => [name, lossCurve(run).at(-1).y.toFixed(4)]);
  const { model } = models[0].run;
  const shape = `${model.numLayers} layers of ${model.hiddenSize}, vocabulary ${model.vocabSize}, context ${contextLength}`;
  const finding = models.map(findingOf).join(' ');
  const report = {
    title: 'Stick-breaking and softmax+RoPE past their training length',
    blocks: [
      {
        kind: 'text',
        text: `Two small LLaMA-style models, alike but for their attention, were trained on State of the Union addresses at a context of ${contextLength} tokens and evaluated on addresses they have not seen (${text.years}): one stream of text, cut into windows of each length.`,
      },
      { kind: 'text', text: finding },
      ...(size.note ? [{ kind: 'text', text: size.note }] : []),
      { kind: 'heading', text: 'Perplexity by context length' },
      {
        kind: 'curves',
        name: 'perplexity',
        caption: 'Lower is better. Right of the dotted line no model has been trained.',
        xLabel: 'context length (tokens)',
        yLabel: 'perplexity',
        xLog2: true,
        yLog: true,
        mark: { x: contextLength, label: 'training length' },
        curves: models.map(({ name, results }) => ({
          name,
          points: results.map(({ length, perplexity }) => ({ x: length, y: perplexity })),
        })),
      },
      { kind: 'table', columns, rows },
      { kind: 'heading', text: 'Training loss' },
      {
        kind: 'curves',
        name: 'loss',
        caption: 'Mean loss in nats per token.',
        xLabel: 'tokens seen',
        yLabel: 'loss',
        curves: models.map(({ name, run }) => ({ name, points: lossCurve(run) })),
      },
      { kind: 'table', columns: ['model', 'loss at the end'], rows: final },
      { kind: 'heading', text: 'How they write' },
      ...models.map(({ name, sample }) => ({ kind: 'text', text: `${name}: ${sample.trim()}` })),
      { kind: 'heading', text: 'What was run' },
      {
        kind: 'facts',
        facts: [
          ['models', shape],
          ['backend', backend.description],
          ['processor', `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} threads`],
          ['time', `${elapsed} s, this time; what was there already was not done again`],
          ['command', 'npm run quickstart'],
        ],
      },
    ],
  };
  writeReport(path, report);
  writePictures('quickstart', report);
  return { path, table: alignColumns([columns, ...rows.map((row) => row.map(String))], '   '), finding };
}
