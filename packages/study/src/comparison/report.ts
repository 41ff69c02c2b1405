/** The report of a comparison: predictions first, then curves by tokens, by length and by position, differences, cost. */
import type { Curve, Finding, ReportBlock } from '@stickbreaking/eval';
import type { StudyReport } from '../study.js';
import { nearLowest, withCloseUp } from '../text/close_up.js';
import { keptResults, rowsOf, triedOf, triedRates } from '../text/rates.js';
import { mean, meanNll, spreadOf } from '../text/spread.js';
import type { ComparisonConfig, ComparisonResult, Prediction } from './config.js';
import { type Planned, planned } from './plan.js';
import { bootstrapInterval, crossing, type Interval, isDecided } from './significance.js';
import type { TaskScores } from './tasks.js';

type Results = ReadonlyMap<string, ComparisonResult>;

/** An arm with what its best rate gave, by seed. */
interface Compared {
  id: string;
  name: string;
  contextLength: number;
  bySeed: ReadonlyMap<number, ComparisonResult>;
}

export function reportComparison(config: ComparisonConfig, results: Results): StudyReport {
  const all = planned(config);
  const arms = comparedArms(config, all, results);
  const baseline = arms.find(({ name }) => name === config.baseline) ?? arms[0];
  const rows = rowsOf(all, results, ({ id }) => costOf(results.get(id)!));
  if (!baseline) return { title: config.question, expectedBy: 'the study', findings: [], blocks: [], rows };
  return {
    title: config.question,
    expectedBy: 'the study',
    findings: config.predictions.flatMap((one) => findingOf(one, arms)),
    blocks: [
      ...learningBlocks(arms, baseline),
      ...lengthBlocks(arms, baseline),
      ...triedRates(triedOf(all, config.seeds[0]!, results)),
      ...positionBlocks(arms),
      ...taskBlocks(arms),
      ...reachBlocks(arms),
      ...costBlocks(arms),
    ],
    rows,
  };
}

function comparedArms({ seeds }: ComparisonConfig, all: readonly Planned[], results: Results): Compared[] {
  const firsts = new Map(all.map((one) => [one.arm.id, one]));
  return [...firsts.values()].flatMap(({ arm, variant }) => {
    const some = all.filter((one) => one.arm.id === arm.id);
    const bySeed = new Map(
      seeds.flatMap((seed) => {
        const [kept] = keptResults(
          some.filter((one) => one.seed === seed),
          seeds[0]!,
          results,
        );
        return kept ? [[seed, kept] as const] : [];
      }),
    );
    return bySeed.size > 0 ? [{ ...arm, contextLength: variant.training.contextLength, bySeed }] : [];
  });
}

const resultsOf = ({ bySeed }: Compared) => [...bySeed.values()];
const nllAt = ({ lengths }: ComparisonResult, length: number) => lengths.find((one) => one.length === length)?.nll;

/** The loss of one arm less that of the other, over the seeds that both have; undefined where there are none. */
function differenceAt(one: Compared, other: Compared, length: number): Interval | undefined {
  const differences = [...one.bySeed].flatMap(([seed, result]) => {
    const there = other.bySeed.get(seed);
    const [a, b] = [nllAt(result, length), there && nllAt(there, length)];
    return a === undefined || b === undefined ? [] : [a - b];
  });
  return differences.length > 0 ? bootstrapInterval(differences) : undefined;
}

const signed = (value: number) => `${value > 0 ? '+' : value < 0 ? '−' : ''}${Math.abs(value).toFixed(4)}`;

function shownInterval(interval: Interval | undefined): string {
  if (!interval) return '';
  const { mean, low, high, seeds } = interval;
  return seeds > 1 ? `${signed(mean)} (${signed(low)} to ${signed(high)})` : `${signed(mean)} (one seed)`;
}

function findingOf({ lower, than, at, because }: Prediction, arms: readonly Compared[]): Finding[] {
  const [one, other] = [lower, than].map((name) => arms.find((arm) => arm.name === name));
  if (!one || !other) return [];
  const length = at ?? one.contextLength;
  const difference = differenceAt(one, other, length);
  if (!difference) return [];
  const seeds = difference.seeds === 1 ? 'one seed' : `${difference.seeds} seeds`;
  return [
    {
      expected: `${lower} has a lower loss than ${than} at ${length} tokens${because ? `: ${because}` : ''}.`,
      source: 'the study’s file',
      found: `${lower} ${meanNll(resultsOf(one), length).toFixed(4)}, ${than} ${meanNll(resultsOf(other), length).toFixed(4)}: ${shownInterval(difference)}, ${seeds}.`,
      verdict: !isDecided(difference) ? 'open' : difference.mean < 0 ? 'agrees' : 'disagrees',
    },
  ];
}

/** Held-out losses while the models were trained; where none were taken, those of training. */
function learningBlocks(arms: readonly Compared[], baseline: Compared): ReportBlock[] {
  const isHeldOut = arms.every((arm) => resultsOf(arm).every(({ validations = [] }) => validations.length > 0));
  const pointsOf = ({ validations = [], losses = [] }: ComparisonResult) =>
    (isHeldOut ? validations : losses).map(({ tokens, loss }) => ({ x: tokens, y: loss }));
  const curves = arms.map((arm) => ({ name: arm.name, points: spreadOf(resultsOf(arm).map(pointsOf)) }));
  const crossings = curves.flatMap(({ name, points }) => {
    const passes = name === baseline.name ? undefined : crossing(points, curvesOf(curves, baseline.name));
    return passes ? [[name, `${millions(passes.from)} to ${millions(passes.to)}`]] : [];
  });
  const what = isHeldOut
    ? 'Held-out loss at the training length.'
    : 'Training loss: the mean of the steps up to each point.';
  return [
    { kind: 'heading', text: 'Loss by tokens seen' },
    ...withCloseUp({
      ...{ kind: 'curves', name: 'loss-by-tokens', xLabel: 'tokens seen', yLabel: 'loss (nats per token)', curves },
      caption: `${what} The learning rate’s schedule is part of it: where it falls to its end all losses fall.`,
    }),
    ...(crossings.length > 0
      ? [
          {
            kind: 'table' as const,
            columns: [`passes below ${baseline.name} for good`, 'tokens seen'],
            rows: crossings,
          },
        ]
      : []),
  ];
}

const curvesOf = (curves: readonly Curve[], name: string) => curves.find((one) => one.name === name)!.points;
const millions = (tokens: number) => `${(tokens / 1e6).toFixed(1)} million`;

function lengthBlocks(arms: readonly Compared[], baseline: Compared): ReportBlock[] {
  const lengths = [
    ...new Set(arms.flatMap((arm) => resultsOf(arm).flatMap((one) => one.lengths.map(({ length }) => length)))),
  ];
  lengths.sort((a, b) => a - b);
  const curves = arms.map((arm) => ({
    name: arm.name,
    points: spreadOf(resultsOf(arm).map((one) => one.lengths.map(({ length, nll }) => ({ x: length, y: nll })))),
  }));
  const trained = [...new Set(arms.map(({ contextLength }) => contextLength))];
  const mark = trained.length === 1 ? { mark: { x: trained[0]!, label: 'training length' } } : {};
  const cell = (value: number) => (Number.isFinite(value) ? value.toFixed(4) : '');
  const others = arms.filter((arm) => arm !== baseline);
  return [
    { kind: 'heading', text: 'Loss by context length' },
    ...withCloseUp({
      ...{ kind: 'curves', name: 'loss-by-length', xLabel: 'context length (tokens)', yLabel: 'loss (nats per token)' },
      ...{ xLog2: true, curves, ...mark },
      caption: 'Lower is better. Shaded, where there are several seeds: from the lowest to the highest.',
    }),
    {
      kind: 'table',
      columns: ['loss', 'seeds', ...lengths.map(String)],
      rows: arms.map((arm) => [
        arm.name,
        arm.bySeed.size,
        ...lengths.map((length) => cell(meanNll(resultsOf(arm), length))),
      ]),
    },
    ...(others.length > 0
      ? ([
          { kind: 'heading', text: `Differences from ${baseline.name}` },
          {
            kind: 'text',
            text: 'The mean difference of the loss over the seeds that both have, and its 95 % bootstrap interval over them. Of two seeds the interval reaches from the one to the other; of one there is none.',
          },
          {
            kind: 'table',
            columns: ['arm', ...lengths.map(String)],
            rows: others.map((arm) => [
              arm.name,
              ...lengths.map((length) => shownInterval(differenceAt(arm, baseline, length))),
            ]),
          },
        ] satisfies ReportBlock[])
      : []),
  ];
}

function positionBlocks(arms: readonly Compared[]): ReportBlock[] {
  const curves = arms.map((arm) => ({
    name: arm.name,
    points: spreadOf(
      resultsOf(arm).map(({ byPosition }) =>
        byPosition.filter(({ begin }) => begin >= 16).map(({ begin, nll }) => ({ x: begin, y: nll })),
      ),
    ),
  }));
  return [
    { kind: 'heading', text: 'Loss by position' },
    {
      ...{ kind: 'curves', name: 'loss-by-position', xLabel: 'position in the window (tokens)' },
      ...{ yLabel: 'loss (nats per token)', xLog2: true, curves, yDomain: nearLowest(curves) },
      caption: 'In the longest windows: the mean loss of the tokens from each position up to the next.',
    },
  ];
}

/** Each task's figure as a column, where tasks were asked for. */
function taskBlocks(arms: readonly Compared[]): ReportBlock[] {
  const named = arms.flatMap((arm) => resultsOf(arm).flatMap(({ scores = [] }) => scores.map(scoreName)));
  const columns = [...new Set(named)];
  if (columns.length === 0) return [];
  const cell = (arm: Compared, column: string) => {
    const found = resultsOf(arm).flatMap(({ scores = [] }) => scores.filter((score) => scoreName(score) === column));
    if (found.length === 0) return '';
    const values = found.map(({ value }) => value);
    const error = found[0]!.standardError;
    if (values.length === 1) return `${values[0]!.toFixed(4)}${error === null ? '' : ` ± ${error.toFixed(4)}`}`;
    return `${mean(values).toFixed(4)} (${Math.min(...values).toFixed(4)} to ${Math.max(...values).toFixed(4)})`;
  };
  return [
    { kind: 'heading', text: 'Tasks' },
    {
      kind: 'text',
      text: 'As sb-eval scores them: of several seeds the mean with the lowest and the highest, of one its standard error.',
    },
    {
      kind: 'table',
      columns: ['arm', ...columns],
      rows: arms.map((arm) => [arm.name, ...columns.map((column) => cell(arm, column))]),
    },
  ];
}

const scoreName = ({ task, metric, filter }: TaskScores[number]) =>
  `${task} ${metric}${filter === 'none' ? '' : `, ${filter}`}`;

/** How far back layers look, where that was taken. */
function reachBlocks(arms: readonly Compared[]): ReportBlock[] {
  const seen = arms.flatMap((arm) => {
    const byTokens = resultsOf(arm)[0]!.validations?.filter(({ distance }) => distance.length > 0) ?? [];
    return byTokens.length > 0 ? [{ name: arm.name, byTokens, last: byTokens.at(-1)! }] : [];
  });
  if (seen.length === 0) return [];
  const layers = Math.max(...seen.map(({ last }) => last.distance.length));
  const numbers = Array.from({ length: layers }, (_, layer) => layer);
  const shown = (value: number | undefined, digits: number) => value?.toFixed(digits) ?? '';
  return [
    { kind: 'heading', text: 'How far back layers look' },
    {
      ...{
        kind: 'curves',
        name: 'reach-by-tokens',
        xLabel: 'tokens seen',
        yLabel: 'mean distance (tokens)',
        yLog: true,
      },
      curves: seen.map(({ name, byTokens }) => ({
        ...{ name, points: byTokens.map(({ tokens, distance }) => ({ x: tokens, y: mean(distance) })) },
      })),
      caption: 'Mean over layers and heads of the distance at which a token attends, in held-out text; the first seed.',
    },
    {
      kind: 'table',
      columns: ['mean distance at the end, by layer', ...numbers.map((layer) => `${layer + 1}`)],
      rows: seen.map(({ name, last }) => [name, ...numbers.map((layer) => shown(last.distance[layer], 1))]),
    },
    {
      kind: 'table',
      columns: ['remainder at the end, by layer', ...numbers.map((layer) => `${layer + 1}`)],
      rows: seen
        .filter(({ last }) => last.remainder)
        .map(({ name, last }) => [name, ...numbers.map((layer) => shown(last.remainder![layer], 3))]),
    },
    ...skippedBlocks(seen, numbers),
  ];
}

type Seen = { name: string; byTokens: Validation[]; last: Validation };
type Validation = NonNullable<ComparisonResult['validations']>[number];

/** What block skipping leaves out, of sticks, where that was taken. */
function skippedBlocks(seen: readonly Seen[], layers: readonly number[]): ReportBlock[] {
  const sticks = seen.filter(({ last }) => last.skipped);
  if (sticks.length === 0) return [];
  return [
    {
      ...{ kind: 'curves', name: 'skipped-by-tokens', xLabel: 'tokens seen', yLabel: 'tiles skipped (%)' },
      yFromZero: true,
      curves: sticks.map(({ name, byTokens }) => ({
        name,
        points: byTokens.flatMap(({ tokens, skipped }) => (skipped ? { x: tokens, y: 100 * mean(skipped) } : [])),
      })),
      caption:
        'Mean over layers and heads of the tiles, 64 queries by 64 keys, that no stick reaches, in windows of the training length; the first seed.',
    },
    {
      kind: 'table',
      columns: ['tiles skipped at the end (%), by layer', ...layers.map((layer) => `${layer + 1}`)],
      rows: sticks.map(({ name, last }) => [
        name,
        ...layers.map((layer) => (last.skipped![layer] === undefined ? '' : (100 * last.skipped![layer]!).toFixed(0))),
      ]),
    },
  ];
}

const costOf = ({ parameters, tokens, trainingSpeed, scores = [] }: ComparisonResult) => ({
  ...(parameters === undefined ? {} : { parameters }),
  ...(tokens === undefined ? {} : { trainedTokens: tokens }),
  ...(trainingSpeed === undefined ? {} : { tokensPerSecond: trainingSpeed }),
  ...Object.fromEntries(scores.map((score) => [scoreName(score), score.value])),
});

function costBlocks(arms: readonly Compared[]): ReportBlock[] {
  const average = (values: readonly (number | undefined)[]) => mean(values.filter((value) => value !== undefined));
  return [
    { kind: 'heading', text: 'Cost' },
    {
      kind: 'table',
      columns: ['arm', 'parameters (million)', 'tokens (million)', 'tokens/s', 'minutes of training a seed'],
      rows: arms.map((arm) => {
        const some = resultsOf(arm);
        const [tokens, speed] = [average(some.map((one) => one.tokens)), average(some.map((one) => one.trainingSpeed))];
        const parameters = some[0]!.parameters ?? Number.NaN;
        return [
          ...[arm.name, (parameters / 1e6).toFixed(1), (tokens / 1e6).toFixed(1)],
          ...[Math.round(speed), (tokens / speed / 60).toFixed(2)],
        ];
      }),
    },
  ];
}
