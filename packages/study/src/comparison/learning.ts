/** What a comparison's report shows of training: the loss by tokens seen, and where one arm passes another. */
import type { Curve, CurvePoint, ReportBlock } from '@stickbreaking/eval';
import { withCloseUp } from '../text/close_up.js';
import { spreadOf } from '../text/spread.js';
import { type Compared, resultsOf } from './compared.js';
import type { ComparisonConfig, ComparisonResult } from './config.js';
import { crossing } from './significance.js';

/** Held-out losses while the models were trained; where none were taken, those of training. */
export function learningBlocks(
  { evaluation }: Pick<ComparisonConfig, 'evaluation'>,
  arms: readonly Compared[],
  baseline: Compared,
): ReportBlock[] {
  const isHeldOut = arms.every((arm) => resultsOf(arm).every(({ validations = [] }) => validations.length > 0));
  const pointsOf = ({ validations = [], losses = [] }: ComparisonResult) =>
    (isHeldOut ? validations : losses).map(({ tokens, loss }) => ({ x: tokens, y: loss }));
  const curves = arms.map((arm) => ({ name: arm.name, points: spreadOf(resultsOf(arm).map(pointsOf)) }));
  const differences = differenceCurves(arms, baseline, pointsOf);
  const crossings = differences.flatMap(({ name, points }) => {
    const passes = crossing(points);
    return passes ? [[name, `${millions(passes.from)} to ${millions(passes.to)}`]] : [];
  });
  const what = isHeldOut
    ? `Held-out loss at the training length, of ${evaluation.during!.tokens.toLocaleString('en')} tokens; the figures by length are of ${evaluation.tokens.toLocaleString('en')}, and differences may be others there.`
    : 'Training loss: the mean of the steps up to each point.';
  return [
    { kind: 'heading', text: 'Loss by tokens seen' },
    ...withCloseUp({
      ...{ kind: 'curves', name: 'loss-by-tokens', xLabel: 'tokens seen', yLabel: 'loss (nats per token)', curves },
      caption: `${what} The learning rate’s schedule is part of it: where it falls to its end all losses fall.`,
    }),
    ...differenceBlocks(differences, baseline),
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

const millions = (tokens: number) => `${(tokens / 1e6).toFixed(1)} million`;

/** Each arm's loss less the baseline's of the same seed, by tokens seen: a curve that passes 0 is a crossing. */
function differenceCurves(
  arms: readonly Compared[],
  baseline: Compared,
  pointsOf: (result: ComparisonResult) => CurvePoint[],
): Curve[] {
  return arms.flatMap((arm) => {
    const bySeed = [...arm.bySeed].flatMap(([seed, result]) => {
      const there = baseline.bySeed.get(seed);
      return arm === baseline || !there ? [] : [differencesOf(pointsOf(result), pointsOf(there))];
    });
    const points = spreadOf(bySeed);
    return points.length > 0 ? [{ name: arm.name, points }] : [];
  });
}

function differenceBlocks(curves: Curve[], { name }: Compared): ReportBlock[] {
  if (curves.length === 0) return [];
  return [
    {
      ...{ kind: 'curves', name: 'difference-by-tokens', xLabel: 'tokens seen', curves, yDomain: nearTheEnd(curves) },
      yLabel: `loss minus that of ${name}`,
      caption: `The same as differences, of equal seeds; below 0 an arm is ahead of ${name}. Shaded: lowest to highest of the seeds.`,
    },
  ];
}

function differencesOf(points: readonly CurvePoint[], others: readonly CurvePoint[]): CurvePoint[] {
  return points.flatMap(({ x, y }) => {
    const there = others.find((one) => one.x === x);
    return there ? [{ x, y: y - there.y }] : [];
  });
}

/** As far from 0 as a curve goes in the second half of training, or after it first crosses 0: before, losses are far apart. */
function nearTheEnd(curves: readonly Curve[]): [number, number] {
  const last = Math.max(...curves.flatMap(({ points }) => points.map(({ x }) => x)));
  const late = curves.flatMap(({ points }) => {
    const crossing = points.findIndex(({ y }, i) => i > 0 && y > 0 !== points[i - 1]!.y > 0);
    return points.filter(({ x }, i) => x >= last / 2 || (crossing > 0 && i >= crossing));
  });
  const most = Math.max(0.01, ...late.flatMap(({ y, low = y, high = y }) => [Math.abs(low), Math.abs(high)]));
  return [-1.2 * most, 1.2 * most];
}
