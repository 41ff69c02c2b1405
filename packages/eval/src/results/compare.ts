/** Two files of samples beside each other: whether they asked the same, how far their answers are apart, and which is right. */
import { shown, UserError } from '@stickbreaking/base';
import { z } from 'zod';
import { readJsonLines } from './json_lines.js';

/** A line of samples, ours or the harness's. */
const SampleSchema = z.looseObject({
  doc_id: z.int(),
  filter: z.string().default('none'),
  metrics: z.array(z.string()).default([]),
  arguments: z.record(z.string(), z.record(z.string(), z.unknown())).default({}),
  resps: z.array(z.unknown()).default([]),
  doc_hash: z.string().optional(),
  prompt_hash: z.string().optional(),
});
type Sample = z.output<typeof SampleSchema>;

/** What a comparison found. */
export interface Comparison {
  /** Lines of the same document and filter in both. */
  common: number;
  onlyFirst: number;
  onlySecond: number;
  /** Lines whose first prompts are the same. */
  samePrompts: number;
  /** The first prompt that differs: which document, at which byte, and what stands there. */
  firstDifference?: { document: number; byte: number; first: string; second: string };
  /** The largest difference of a log-likelihood. */
  largestDifference?: { document: number; value: number };
  figures: readonly ComparedFigure[];
}

/** A figure of both. */
export interface ComparedFigure {
  metric: string;
  filter: string;
  first: number;
  second: number;
  /** Documents that only the first, and only the second, gets right; for shares alone. */
  discordant?: readonly [first: number, second: number];
  /** Of McNemar's exact test: how likely so uneven a split is if neither is better. */
  pValue?: number;
}

/** @throws UserError where a file cannot be read, or the two have no document in common */
export function compareSamples(first: string, second: string): Comparison {
  const [left, right] = [samplesOf(first), samplesOf(second)];
  const pairs = [...left].flatMap(([key, a]) => {
    const b = right.get(key);
    return b ? [[a, b] as const] : [];
  });
  if (pairs.length === 0) throw new UserError(`${shown(first)} and ${shown(second)} have no document in common.`);
  const unlike = pairs.find(([a, b]) => promptOf(a) !== promptOf(b));
  const apart = pairs.flatMap(([a, b]) => likelihoodsApart(a, b).map((value) => ({ document: a.doc_id, value })));
  const largest = apart.reduce((most, one) => (one.value > most.value ? one : most), { document: -1, value: -1 });
  return {
    common: pairs.length,
    onlyFirst: left.size - pairs.length,
    onlySecond: right.size - pairs.length,
    samePrompts: pairs.filter(([a, b]) => promptOf(a) === promptOf(b)).length,
    ...(unlike ? { firstDifference: differenceOf(...unlike) } : {}),
    ...(largest.document < 0 ? {} : { largestDifference: largest }),
    figures: figuresOf(pairs),
  };
}

function samplesOf(path: string): Map<string, Sample> {
  const samples = readJsonLines(path).map(sampleOf);
  return new Map(samples.map((one) => [`${one.doc_id} ${one.filter}`, one]));
}

function sampleOf({ json, where }: { json: unknown; where: string }): Sample {
  const parsed = SampleSchema.safeParse(json);
  if (!parsed.success) throw new UserError(`${where}: this is no sample.`);
  return parsed.data;
}

/** Of all requests, since some tasks differ in the context and some in what follows. */
function promptOf({ arguments: given }: Sample): string {
  return Object.values(given)
    .map(({ arg_0, arg_1 }) => `${arg_0}${typeof arg_1 === 'string' ? arg_1 : ''}`)
    .join('\u0000');
}

function differenceOf(a: Sample, b: Sample): NonNullable<Comparison['firstDifference']> {
  const [first, second] = [promptOf(a), promptOf(b)];
  let at = 0;
  while (at < first.length && first[at] === second[at]) at++;
  const around = (text: string) => text.slice(Math.max(0, at - 20), at + 20);
  return {
    document: a.doc_id,
    byte: Buffer.byteLength(first.slice(0, at)),
    first: around(first),
    second: around(second),
  };
}

function likelihoodsApart(a: Sample, b: Sample): number[] {
  const numbers = ({ resps }: Sample) => resps.map((one) => Number([one].flat(3)[0]));
  const right = numbers(b);
  return numbers(a)
    .map((value, i) => Math.abs(value - right[i]!))
    .filter(Number.isFinite);
}

function figuresOf(pairs: readonly (readonly [Sample, Sample])[]): ComparedFigure[] {
  const names = new Set(pairs.flatMap(([a]) => a.metrics.map((metric) => `${metric}\t${a.filter}`)));
  return [...names].flatMap((name) => {
    const [metric, filter] = name.split('\t') as [string, string];
    const values = pairs
      .filter(([a]) => a.filter === filter)
      .map(([a, b]) => [Number(a[metric]), Number(b[metric])] as const)
      .filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
    if (values.length === 0) return [];
    const mean = (which: 0 | 1) => values.reduce((sum, pair) => sum + pair[which], 0) / values.length;
    const compared = { metric, filter, first: mean(0), second: mean(1) };
    if (!values.flat().every((value) => value === 0 || value === 1)) return [compared];
    const discordant = [values.filter(([x, y]) => x > y).length, values.filter(([x, y]) => y > x).length] as const;
    return [{ ...compared, discordant, pValue: exactMcNemar(...discordant) }];
  });
}

/** How likely a split of n fair coins at least as uneven is. */
export function exactMcNemar(a: number, b: number): number {
  const n = a + b;
  if (n === 0) return 1;
  let term = -n * Math.LN2;
  let sum = 0;
  for (let i = 0; i <= Math.min(a, b); i++) {
    sum += Math.exp(term);
    term += Math.log((n - i) / (i + 1));
  }
  return Math.min(1, 2 * sum);
}
