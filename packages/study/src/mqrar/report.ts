import type { Curve, CurvePoint, Finding, ReportBlock } from '@stickbreaking/eval';
import { shownRate } from '../config.js';
import type { Row, StudyReport } from '../study.js';
import { mean } from '../text/spread.js';
import { ids, nameOf, percent, type Results } from './arms.js';
import type { MqrarConfig } from './config.js';
import { figure4, findExample } from './example.js';
import { bestOf, examples, fewestPairs, recipesOf, sweep, type Tried, triedOf } from './plan.js';

/** How training sequences differ from those of the final test. */
function mixture(config: MqrarConfig): string {
  const { fewestPairs } = config.training;
  const first =
    fewestPairs === undefined
      ? ''
      : ` Models train on sequences of ${fewestPairs} pairs up to the number shown, and are asked with that number alone.`;
  const several = config.arms.filter((arm) => recipesOf(config, arm).length > 1).map(({ name }) => name);
  return several.length === 0
    ? first
    : `${first} Of such mixtures ${several.join(' and ')} ${several.length > 1 ? 'have' : 'has'} several; the table shows which is kept.`;
}

const seedsOf = ({ seeds }: MqrarConfig) =>
  seeds.length > 1 ? ` ${seeds.length} seeds: the mean, with the lowest and highest.` : '';

export function reportMqrar(config: MqrarConfig, results: Results): StudyReport {
  const points = bestPoints(config, results);
  return {
    title: 'MQRAR: how many pairs each attention keeps up to date',
    findings: [...findPairs(config, points), ...findExample(config, results)],
    blocks: [
      {
        kind: 'text',
        text: `Multi-query repeated associative recall: a sequence of ${config.task.sequenceLength} tokens assigns values to variables, then asks for a variable and assigns it anew, over and over; an answer is right when it is the value assigned last. Chance is 1 in ${config.task.values}. ${config.model.numLayers} layers of ${config.model.hiddenSize}, ${config.model.numHeads} head; the best of up to ${config.learningRates.length} learning rates is shown.${seedsOf(config)}${mixture(config)}`,
      },
      { kind: 'heading', text: 'Right answers by number of pairs (figure 3)' },
      figure3(config, points),
      { kind: 'table', ...pointTable(config, points, 'right answers', shownShares) },
      {
        kind: 'table',
        ...pointTable(config, points, 'best learning rate', (point) =>
          valuesOf(point, ({ learningRate }) => shownRate(learningRate)),
        ),
      },
      ...mixtureTable(config, points),
      ...mixtureFigure(config, results),
      ...courses(config, points),
      ...figure4(config, results),
    ],
    rows: rowsOf(config, results),
  };
}

const pairsOf = (config: MqrarConfig) =>
  [...new Set(config.arms.flatMap((arm) => arm.pairs ?? config.pairs))].sort((a, b) => a - b);

/** An arm at one number of pairs: the best run of each seed. */
interface Point {
  arm: string;
  pairs: number;
  runs: Tried[];
}

function bestPoints(config: MqrarConfig, results: Results, isWanted: (run: Tried) => boolean = () => true): Point[] {
  const tried = triedOf(sweep(config), results).filter(isWanted);
  return config.arms.flatMap(({ id, pairs = config.pairs }) =>
    pairs.flatMap((count) => {
      const own = tried.filter(({ arm, pairs }) => arm === id && pairs === count);
      const runs = config.seeds.flatMap((seed) => bestOf(own.filter((run) => run.seed === seed)) ?? []);
      return runs.length > 0 ? [{ arm: id, pairs: count, runs }] : [];
    }),
  );
}

const sharesOf = ({ runs }: Point) => runs.map(({ result }) => result.accuracy);
const lowest = (point: Point) => Math.min(...sharesOf(point));

/** The mean over seeds, and the range where there are several. */
function shownShares(point: Point): string {
  const shares = sharesOf(point);
  if (shares.length === 1) return percent(shares[0]!);
  return `${percent(mean(shares))} (${percent(Math.min(...shares))} to ${percent(Math.max(...shares))})`;
}

/** What the seeds' runs have, once where it is the same. */
const valuesOf = ({ runs }: Point, value: (run: Tried) => string) => [...new Set(runs.map(value))].join(', ');

const curveOf = (points: readonly Point[]): CurvePoint[] =>
  points.map((point) => {
    const shares = sharesOf(point).map((share) => 100 * share);
    const spread = shares.length > 1 ? { low: Math.min(...shares), high: Math.max(...shares) } : {};
    return { x: point.pairs, y: mean(shares), ...spread };
  });

/** The most pairs up to which every smaller number is solved too, by every seed. */
function solvedUpTo(config: MqrarConfig, points: readonly Point[], arm: string): number {
  let most = 0;
  for (const pairs of pairsOf(config)) {
    const point = points.find((one) => one.arm === arm && one.pairs === pairs);
    if (!point) continue;
    if (lowest(point) < config.training.solvedAt) break;
    most = pairs;
  }
  return most;
}

/** The paper's sizes: then its numbers of pairs are to be met; at other sizes the order of the two models is. */
const atPaperSize = (config: MqrarConfig) => config.task.sequenceLength === 768 && Math.max(...pairsOf(config)) === 192;

function findPairs(config: MqrarConfig, points: readonly Point[]): Finding[] {
  const { stickBreaking: stick, rope } = ids;
  const source = 'section 5.1, figure 3';
  const of = (id: string) => points.filter(({ arm }) => arm === id);
  if (of(stick).length === 0 || of(rope).length === 0) return [];
  const [stickMost, ropeMost] = [solvedUpTo(config, points, stick), solvedUpTo(config, points, rope)];
  const said = (id: string) =>
    of(id)
      .map((point) => `${point.pairs}: ${shownShares(point)}`)
      .join(', ');
  const largest = Math.max(...pairsOf(config));
  const complete = [stick, rope].every((id) => of(id).some(({ pairs }) => pairs === largest));
  const verdict = (agrees: boolean): Finding['verdict'] => (!complete ? 'open' : agrees ? 'agrees' : 'disagrees');
  if (!atPaperSize(config)) {
    return [
      {
        expected: 'Stick-breaking keeps more pairs up to date than softmax+RoPE does.',
        source: `${source}; this study is smaller than the paper’s`,
        found: `Within ${config.training.steps} steps stick-breaking solves up to ${stickMost} pairs (${said(stick)}), softmax+RoPE up to ${ropeMost} (${said(rope)}).`,
        verdict: verdict(stickMost > ropeMost),
      },
    ];
  }
  return [
    {
      expected: 'Stick-breaking handles up to 192 key-value pairs.',
      source,
      found: `Solved up to ${stickMost} within ${config.training.steps} steps; right answers by pairs: ${said(stick)}.`,
      verdict: verdict(stickMost >= 192),
    },
    {
      expected: 'Softmax+RoPE handles up to 128 key-value pairs and not more.',
      source,
      found: `Solved up to ${ropeMost} within ${config.training.steps} steps; right answers by pairs: ${said(rope)}.`,
      verdict: verdict(ropeMost === 128),
    },
  ];
}

function figure3(config: MqrarConfig, points: readonly Point[]): ReportBlock {
  const curves: Curve[] = config.arms.map(({ id, name }) => ({
    name,
    points: curveOf(points.filter(({ arm }) => arm === id)),
  }));
  return {
    kind: 'curves',
    name: 'figure-3',
    caption: `Right answers on sequences that were not trained on; a run has solved the task at ${percent(config.training.solvedAt)} and then stops.`,
    xLabel: 'key-value pairs',
    yLabel: 'right answers (%)',
    yDomain: [0, 100],
    curves: curves.filter((curve) => curve.points.length > 0),
  };
}

function pointTable(config: MqrarConfig, points: readonly Point[], title: string, show: (point: Point) => string) {
  const pairs = pairsOf(config);
  const shown = config.arms.filter(({ id }) => points.some(({ arm }) => arm === id));
  const rows = shown.map(({ id, name }) => [
    name,
    ...pairs.map((count) => {
      const point = points.find(({ arm, pairs }) => arm === id && pairs === count);
      return point ? show(point) : '–';
    }),
  ]);
  return { columns: [title, ...pairs.map((count) => `${count} pairs`)], rows };
}

function mixtureTable(config: MqrarConfig, points: readonly Point[]): ReportBlock[] {
  const own = points.filter(({ arm }) => mixturesOf(config, arm).length > 1);
  if (own.length === 0) return [];
  const show = (point: Point) => valuesOf(point, ({ training, pairs }) => `${fewestPairs(training, pairs)}`);
  return [{ kind: 'table', ...pointTable(config, own, 'trained on pairs from', show) }];
}

/** The fewest pairs of an arm's training sequences; undefined: the number that it is asked with. */
const mixturesOf = (config: MqrarConfig, id: string) =>
  recipesOf(config, config.arms.find((arm) => arm.id === id)!).map(({ training }) => training.fewestPairs);

/** What the training sequences do: each arm that has several mixtures, with each at each number of pairs. */
function mixtureFigure(config: MqrarConfig, results: Results): ReportBlock[] {
  const several = config.arms.filter(({ id }) => mixturesOf(config, id).length > 1);
  const mixtures = [...new Set(several.flatMap(({ id }) => mixturesOf(config, id)))].sort(
    (a, b) => (a ?? Infinity) - (b ?? Infinity),
  );
  const columns = mixtures.flatMap((fewest) => {
    const points = bestPoints(config, results, ({ training }) => training.fewestPairs === fewest);
    return pairsOf(config).map((pairs) => ({
      name: `${pairs} pairs, from ${Math.min(fewest ?? pairs, pairs)}`,
      of: (id: string) => points.find((point) => point.arm === id && point.pairs === pairs),
    }));
  });
  const shown = several.filter(({ id }) => columns.some(({ of }) => of(id)));
  const filled = columns.filter(({ of }) => shown.some(({ id }) => of(id)));
  if (shown.length === 0) return [];
  const cell = (row: number, column: number) => filled[column]!.of(shown[row]!.id);
  return [
    { kind: 'heading', text: 'Right answers by training mixture' },
    {
      kind: 'matrix',
      name: 'mixtures',
      caption:
        'The share of right answers of each attention with each mixture of training sequences: of so many pairs up to as many as are asked for. Cells that are empty were not run.',
      rows: shown.map(({ name }) => name),
      columns: filled.map(({ name }) => name),
      rowLabel: 'attention',
      columnLabel: 'asked for, trained',
      showValues: true,
      values: shown.flatMap(({ id }) =>
        filled.map(({ of }) => {
          const point = of(id);
          return point ? mean(sharesOf(point)) : Number.NaN;
        }),
      ),
      describe: (row, column) => `${shown[row]!.name}, ${filled[column]!.name}: ${shownShares(cell(row, column)!)}`,
    },
    {
      kind: 'table',
      columns: ['right answers', ...filled.map(({ name }) => name)],
      rows: shown.map(({ name }, row) => [
        name,
        ...filled.map((_, column) => {
          const point = cell(row, column);
          return point ? shownShares(point) : '–';
        }),
      ]),
    },
  ];
}

/** How the best runs learnt, at the largest number of pairs that both rivals were given. */
function courses(config: MqrarConfig, points: readonly Point[]): ReportBlock[] {
  const largest = Math.max(...pairsOf(config));
  const curves = points
    .filter(({ pairs }) => pairs === largest)
    .map(({ arm, runs: [first] }) => ({
      name: nameOf(config, arm),
      points: first!.result.checks.map(({ step, accuracy }) => ({ x: step, y: 100 * accuracy })),
    }))
    .filter((curve) => curve.points.length > 0);
  if (curves.length === 0) return [];
  return [
    { kind: 'heading', text: `Learning with ${largest} pairs` },
    {
      kind: 'curves',
      name: 'learning',
      caption: 'Each curve is the best run of the first seed.',
      xLabel: 'step',
      yLabel: 'right answers (%)',
      yDomain: [0, 100],
      curves,
    },
  ];
}

function rowsOf(config: MqrarConfig, results: Results): Row[] {
  const row = (attention: string, { pairs, learningRate, training, seed, result }: Tried) => {
    const { accuracy, steps, tokens, parameters } = result;
    return {
      attention,
      pairs,
      fewestPairs: fewestPairs(training, pairs),
      learningRate,
      seed,
      accuracy,
      steps,
      tokens,
      parameters,
    };
  };
  return [
    ...triedOf(sweep(config), results).map((one) => row(nameOf(config, one.arm), one)),
    ...triedOf(examples(config), results).map((one) => row(`figure 4: ${nameOf(config, one.arm)}`, one)),
  ];
}
