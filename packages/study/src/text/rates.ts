/**
 * The learning rates that a study on text tries for each method, and the one it keeps: the best at the training length.
 */
import type { ReportBlock } from '@stickbreaking/eval';
import { shownRate } from '../config.js';
import type { Row } from '../study.js';
import type { Recipe } from './config.js';
import type { TextEvaluation } from './evaluate.js';

/** undefined: the recipe's own. */
export type Rate = number | undefined;

interface Sweep {
  learningRates?: number[] | undefined;
}

export function ratesOf(config: Sweep, arm: Sweep): Rate[] {
  return arm.learningRates ?? config.learningRates ?? [undefined];
}

/** What distinguishes the arms of several rates in their names; nothing if there is only one. */
export function rateLabel(rates: readonly Rate[], rate: Rate): string {
  return rates.length > 1 && rate !== undefined ? `, lr ${shownRate(rate)}` : '';
}

/** The recipe with this peak in its first stage. A later stage goes on from there, or has a peak of its own. */
export function withRate(recipe: Recipe, rate: Rate): Recipe {
  const [first, ...others] = recipe.stages;
  if (rate === undefined || !first) return recipe;
  return { ...recipe, stages: [{ ...first, schedule: { ...first.schedule, peak: rate } }, ...others] };
}

/** A trained model's loss at the training length; one that is not finite is the worst. */
function lossAtTrainingLength(result: TextEvaluation | undefined): number | undefined {
  const loss = result?.lengths[0]?.nll;
  return loss !== undefined && !Number.isFinite(loss) ? Number.POSITIVE_INFINITY : loss;
}

/**
 * The best rate of those whose loss is known; `decided` once all are. The first seed decides, so that the others are
 * trained once.
 */
function bestRate(
  rates: readonly Rate[],
  lossOf: (rate: Rate) => number | undefined,
): { rate: Rate; decided: boolean } {
  const known = rates.map((rate) => ({ rate, loss: lossOf(rate) })).filter(({ loss }) => loss !== undefined);
  const [best] = known.sort((a, b) => a.loss! - b.loss!);
  return { rate: best ? best.rate : rates[0], decided: known.length === rates.length };
}

/** Something to be run: a training, or what is made of the model that one gives. */
export interface Swept {
  id: string;
  arm: { id: string; name: string };
  rate: Rate;
  seed: number;
  /** What its model is trained with. */
  rates: readonly Rate[];
  /** The id of that training. */
  trainedId(rate: Rate, seed: number): string;
}

type Results<Result extends TextEvaluation = TextEvaluation> = ReadonlyMap<string, Result>;

/** Whether it is one of the trainings that the rate is chosen by. */
const chooses = ({ id, rate, seed, trainedId }: Swept, firstSeed: number) =>
  seed === firstSeed && id === trainedId(rate, seed);

/** What the first seed's trainings gave, by rate. */
function lossesOf({ trainedId }: Swept, firstSeed: number, results: Results): Tried['lossOf'] {
  return (rate) => lossAtTrainingLength(results.get(trainedId(rate, firstSeed)));
}

/** Results with the rate that their method keeps, as far as that is known. */
export function keptResults<Result extends TextEvaluation>(
  some: readonly Swept[],
  firstSeed: number,
  results: Results<Result>,
): Result[] {
  return some
    .filter((one) => bestRate(one.rates, lossesOf(one, firstSeed, results)).rate === one.rate)
    .flatMap(({ id }) => results.get(id) ?? []);
}

/** Every method that is trained, with what its rates gave. */
export function triedOf(all: readonly Swept[], firstSeed: number, results: Results): Tried[] {
  const trainings = all.filter((one) => chooses(one, firstSeed));
  const byArm = new Map(trainings.map((one) => [one.arm.id, one]));
  return [...byArm.values()].map((one) => ({
    name: one.arm.name,
    rates: one.rates,
    lossOf: lossesOf(one, firstSeed, results),
  }));
}

/** Ids of what must be known before it is run: its model, and which rate is kept. */
export function earlierThan(one: Swept, firstSeed: number): string[] {
  const { id, rate, seed, rates, trainedId } = one;
  const own = trainedId(rate, seed);
  const model = id === own ? [] : [own];
  const isChosen = rates.length > 1 && !chooses(one, firstSeed);
  return [...model, ...(isChosen ? rates.map((each) => trainedId(each, firstSeed)) : [])];
}

/** Why it is skipped, if another rate is known to be better. */
export function whySkipped(one: Swept, firstSeed: number, results: Results): string | undefined {
  if (chooses(one, firstSeed)) return undefined;
  const best = bestRate(one.rates, lossesOf(one, firstSeed, results));
  if (!best.decided || best.rate === one.rate) return undefined;
  return `${one.trainedId(best.rate, firstSeed)} is better at the training length`;
}

/** The CSV's rows: a length each. */
export function rowsOf<One extends Swept>(all: readonly One[], results: Results, more?: (one: One) => Row): Row[] {
  return all.flatMap((one) =>
    (results.get(one.id)?.lengths ?? []).map((length) => ({
      attention: one.arm.name,
      ...more?.(one),
      ...(one.rate === undefined ? {} : { learningRate: one.rate }),
      seed: one.seed,
      ...length,
    })),
  );
}

export interface Tried {
  name: string;
  rates: readonly Rate[];
  lossOf(rate: Rate): number | undefined;
}

/** What was tried, where anything was. */
export function triedRates(methods: readonly Tried[]): ReportBlock[] {
  const swept = methods.filter(({ rates }) => rates.length > 1);
  if (swept.length === 0) return [];
  const all = [...new Set(swept.flatMap(({ rates }) => rates as number[]))].sort((a, b) => a - b);
  const cell = ({ rates, lossOf }: Tried, rate: number) => {
    const loss = rates.includes(rate) ? lossOf(rate) : undefined;
    if (loss === undefined) return '';
    return `${loss.toFixed(4)}${bestRate(rates, lossOf).rate === rate ? ' (kept)' : ''}`;
  };
  const edges = swept.filter(({ rates, lossOf }) => isAtEdge(rates as number[], bestRate(rates, lossOf)));
  const names = edges.map(({ name, rates, lossOf }) => `${name} ${shownRate(bestRate(rates, lossOf).rate!)}`);
  const warning = ` The best is the lowest or highest that was tried for ${names.join(', ')}: one beyond may serve better.`;
  return [
    { kind: 'heading', text: 'Learning rates' },
    {
      kind: 'text',
      text: `The loss at the training length by the peak of the learning rate, of the first seed. Each method keeps its best: the other numbers here are of that one, and the other seeds are trained with it.${names.length > 0 ? warning : ''}`,
    },
    {
      kind: 'table',
      columns: ['method', ...all.map(shownRate)],
      rows: swept.map((method) => [method.name, ...all.map((rate) => cell(method, rate))]),
    },
  ];
}

const isAtEdge = (rates: readonly number[], { rate, decided }: { rate: Rate; decided: boolean }) =>
  decided && (rate === Math.min(...rates) || rate === Math.max(...rates));
