/** The quickstart's report: the two perplexity curves past the training length, and the two loss curves. */
import { join } from 'node:path';
import { alignColumns, formatCount, formatDuration } from '@stickbreaking/base';
import { replaceFile } from '@stickbreaking/base/node';
import type { SelectedBackend } from '@stickbreaking/core';
import { type CurvePoint, type Report, writePictures, writeReport } from '@stickbreaking/eval';
import { countParameters } from '@stickbreaking/model';
import { environmentOf, toCsv } from '@stickbreaking/study';
import { type RunConfig, readMetrics, type StepMetrics } from '@stickbreaking/train';

/** One of the two models. */
export interface Trained {
  name: string;
  run: RunConfig;
  results: { length: number; nll: number; perplexity: number; tokens: number }[];
  /** What it wrote. */
  sample: string;
}

interface Told {
  /** What both continued, and how. */
  prompt: string;
  temperature: number;
  models: readonly Trained[];
  backend: SelectedBackend;
  note: string | undefined;
  /** Seconds. */
  elapsed: number;
}

/** Writes `report.html`, `results.csv` and its pictures into `directory`; gives what is printed of it. */
export async function writeQuickstartReport(
  directory: string,
  told: Told,
): Promise<{ path: string; table: string; finding: string }> {
  const path = join(directory, 'report.html');
  const columns = ['length', ...told.models.map(({ name }) => `perplexity, ${name}`)];
  const rows = told.models[0]!.results.map(({ length }, i) => [
    String(length),
    ...told.models.map(({ results }) => results[i]!.perplexity.toFixed(2)),
  ]);
  const finding = told.models.map(findingOf).join(' ');
  const report = reportOf(told, finding, columns, rows);
  const numbers = told.models.flatMap(({ name, results }) =>
    results.map(({ length, nll, perplexity, tokens }) => {
      return { attention: name, contextLength: length, nll, perplexity, tokens };
    }),
  );
  replaceFile(join(directory, 'results.csv'), toCsv(numbers));
  await writeReport(path, report);
  await writePictures(directory, report);
  return { path, table: alignColumns([columns, ...rows], '   '), finding };
}

function reportOf(
  { models, prompt, temperature, backend, note, elapsed }: Told,
  finding: string,
  columns: string[],
  rows: string[][],
) {
  const { model } = models[0]!.run;
  const { contextLength } = model;
  const environment = environmentOf(backend.description);
  const sizes = models.map(({ run }) => countParameters(run.model));
  const shape = `${model.numLayers} layers of ${model.hiddenSize}, vocabulary ${model.vocabSize}, context ${contextLength}`;
  const final = models.map(({ name, run }) => [
    name,
    lossCurve(run.output).at(-1)?.y.toFixed(4) ?? 'none',
    validationCurve(run.output).at(-1)?.y.toFixed(4) ?? 'none',
  ]);
  const report: Report = {
    title: 'Stick-breaking and softmax+RoPE past their training length',
    blocks: [
      {
        kind: 'text',
        text: `Two small LLaMA-style models, alike but for their attention, were trained on State of the Union addresses at a context of ${contextLength} tokens and evaluated on addresses they have not seen, of one year in twenty: one stream of text, cut into windows of each length.`,
      },
      { kind: 'text', text: finding },
      ...(note === undefined ? [] : [{ kind: 'text', text: note } as const]),
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
        caption:
          'Of what is trained on, the mean of several steps each; shaded: from the lowest to the highest of them. Of held-out text (validation), all of it.',
        xLabel: 'tokens seen',
        yLabel: 'loss (nats per token)',
        curves: [
          ...models.map(({ name, run }) => ({ name, points: lossCurve(run.output) })),
          ...models.map(({ name, run }) => ({ name: `${name}, validation`, points: validationCurve(run.output) })),
        ].filter(({ points }) => points.length > 0),
      },
      { kind: 'table', columns: ['model', 'loss at the end', 'validation loss'], rows: final },
      { kind: 'heading', text: 'How they write' },
      {
        kind: 'text',
        text: `Each goes on from “${prompt}”, at temperature ${temperature} and seed 0, from its latest checkpoint.`,
      },
      ...models.map(({ name, sample }) => ({ kind: 'text', text: `${name}: ${sample.trim()}` }) as const),
      { kind: 'files', files: [{ path: 'results.csv', text: 'The perplexities as CSV' }] },
      { kind: 'heading', text: 'What was run' },
      {
        kind: 'facts',
        facts: [
          ['models', shape],
          ['parameters', models.map(({ name }, i) => `${name}: ${formatCount(sizes[i]!)}`).join(', ')],
          [
            'trained on',
            models.map(({ name, run }) => `${name}: ${formatCount(tokensOf(run.output))} tokens`).join(', '),
          ],
          ['evaluated on', `${formatCount(models[0]!.results[0]!.tokens)} tokens`],
          ['date', new Date().toISOString().slice(0, 10)],
          ['commit', environment.commit],
          ['backend', backend.description],
          ['processor', `${environment.processor}, ${environment.threads} threads, ${environment.memoryGiB} GiB`],
          ['system', `${environment.system}, Node ${environment.node}`],
          ['time', `${formatDuration(elapsed)}, this time; what was there already was not done again`],
          ['command', 'stickbreaking quickstart'],
        ],
      },
      ...models.map(
        ({ name, run }) =>
          ({ kind: 'code', summary: `Configuration of ${name}`, text: JSON.stringify(run, null, 2) }) as const,
      ),
    ],
  };
  return report;
}

/** Loss by tokens of a run, averaged over a few steps so that two curves can be told apart, with their spread. */
function lossCurve(run: string): CurvePoint[] {
  const lines = readMetrics(join(run, 'metrics.jsonl'));
  const steps = lines.filter((line): line is StepMetrics & { loss: number } => 'loss' in line && line.loss !== null);
  const width = Math.max(1, Math.floor(steps.length / 60));
  const points = [];
  for (let begin = 0; begin + width <= steps.length; begin += width) {
    const losses = steps.slice(begin, begin + width).map(({ loss }) => loss);
    const spread = width > 1 ? { low: Math.min(...losses), high: Math.max(...losses) } : {};
    const y = losses.reduce((sum, loss) => sum + loss, 0) / width;
    points.push({ x: steps[begin + width - 1]!.tokens, y, ...spread });
  }
  return points;
}

function validationCurve(run: string): CurvePoint[] {
  return readMetrics(join(run, 'metrics.jsonl')).flatMap((line) =>
    'validationLoss' in line ? [{ x: line.tokens, y: line.validationLoss }] : [],
  );
}

/** Tokens that were seen in training. */
const tokensOf = (run: string) => readMetrics(join(run, 'metrics.jsonl')).at(-1)?.tokens ?? 0;

/** A sentence on one model: its perplexity at the training length and at the longest. */
function findingOf({ name, results }: Trained): string {
  const [first, last] = [results[0]!, results.at(-1)!];
  const change = 100 * (last.perplexity / first.perplexity - 1);
  const word = change < 0 ? 'falls' : 'rises';
  return `${name}: perplexity ${word} by ${Math.abs(change).toFixed(0)} % from ${first.length} tokens (${first.perplexity.toFixed(1)}) to ${last.length} (${last.perplexity.toFixed(1)}).`;
}
