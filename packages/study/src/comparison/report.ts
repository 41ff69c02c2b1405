/** The report of a comparison: predictions first, then curves by tokens, by length and by position, differences, cost. */
import type { Finding, ReportBlock } from '@stickbreaking/eval';
import type { StudyReport } from '../study.js';
import { positionBlocks } from '../text/by_position.js';
import { withCloseUp } from '../text/close_up.js';
import { rowsOf, triedOf, triedRates } from '../text/rates.js';
import { mean, meanNll, spreadOf } from '../text/spread.js';
import { type Compared, comparedArms, differenceAt, type Results, resultsOf } from './compared.js';
import type { ComparisonConfig, ComparisonResult, Prediction } from './config.js';
import { learningBlocks } from './learning.js';
import { type Planned, planned } from './plan.js';
import { reachBlocks } from './reach.js';
import { type Interval, isDecided } from './significance.js';
import type { TaskScores } from './tasks.js';

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
      ...learningBlocks(config, arms, baseline),
      ...lengthBlocks(arms, baseline),
      ...triedRates(triedOf(all, config.seeds[0]!, results)),
      ...positionBlocks(
        arms.map((arm) => ({ name: arm.name, results: resultsOf(arm) })),
        trainedMark(arms),
      ),
      ...taskBlocks(arms),
      ...reachBlocks(arms),
      ...costBlocks(arms, all, results),
    ],
    rows,
  };
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

function lengthBlocks(arms: readonly Compared[], baseline: Compared): ReportBlock[] {
  const lengths = [
    ...new Set(arms.flatMap((arm) => resultsOf(arm).flatMap((one) => one.lengths.map(({ length }) => length)))),
  ];
  lengths.sort((a, b) => a - b);
  const curves = arms.map((arm) => ({
    name: arm.name,
    points: spreadOf(resultsOf(arm).map((one) => one.lengths.map(({ length, nll }) => ({ x: length, y: nll })))),
  }));
  const mark = trainedMark(arms);
  const cell = (value: number) => (Number.isFinite(value) ? value.toFixed(4) : '');
  const others = arms.filter((arm) => arm !== baseline);
  return [
    { kind: 'heading', text: 'Loss by context length' },
    ...withCloseUp({
      ...{ kind: 'curves', name: 'loss-by-length', xLabel: 'context length (tokens)', yLabel: 'loss (nats per token)' },
      ...{ xLog2: true, curves, ...(mark && { mark }) },
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

/** A line at the training length, where all arms have the same. */
function trainedMark(arms: readonly Compared[]): { x: number; label: string } | undefined {
  const trained = [...new Set(arms.map(({ contextLength }) => contextLength))];
  return trained.length === 1 ? { x: trained[0]!, label: 'training length' } : undefined;
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

const costOf = ({ parameters, tokens, trainingSpeed, scores = [] }: ComparisonResult) => ({
  ...(parameters === undefined ? {} : { parameters }),
  ...(tokens === undefined ? {} : { trainedTokens: tokens }),
  ...(trainingSpeed === undefined ? {} : { tokensPerSecond: trainingSpeed }),
  ...Object.fromEntries(scores.map((score) => [scoreName(score), score.value])),
});

function costBlocks(arms: readonly Compared[], all: readonly Planned[], results: Results): ReportBlock[] {
  const average = (values: readonly (number | undefined)[]) => mean(values.filter((value) => value !== undefined));
  /** Of every seed and rate that was tried. */
  const minutesOf = (arm: Compared) =>
    all
      .filter((one) => one.arm.id === arm.id)
      .flatMap(({ id }) => results.get(id) ?? [])
      .reduce((sum, { tokens = Number.NaN, trainingSpeed = Number.NaN }) => sum + tokens / trainingSpeed / 60, 0);
  const total = arms.reduce((sum, arm) => sum + minutesOf(arm), 0);
  return [
    { kind: 'heading', text: 'Cost' },
    {
      kind: 'text',
      text: `Time on a device: each arm trains on one GPU, or on the CPUs. Of arms that shared one each has a part of its speed, so that their minutes count it several times. All arms together: ${total.toFixed(1)} minutes of training.`,
    },
    {
      kind: 'table',
      columns: ['arm', 'parameters (million)', 'tokens (million)', 'tokens/s', 'minutes a seed', 'minutes in all'],
      rows: arms.map((arm) => {
        const some = resultsOf(arm);
        const [tokens, speed] = [average(some.map((one) => one.tokens)), average(some.map((one) => one.trainingSpeed))];
        const parameters = some[0]!.parameters ?? Number.NaN;
        return [
          ...[arm.name, (parameters / 1e6).toFixed(1), (tokens / 1e6).toFixed(1)],
          ...[Math.round(speed), (tokens / speed / 60).toFixed(2), minutesOf(arm).toFixed(2)],
        ];
      }),
    },
  ];
}
