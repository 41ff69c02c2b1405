/** What a comparison's report shows of how far back layers look, and what block skipping leaves out, while models learn. */
import type { ReportBlock } from '@stickbreaking/eval';
import { mean, spreadOf } from '../text/spread.js';
import { type Compared, resultsOf } from './compared.js';
import type { ComparisonResult } from './config.js';

type Validation = NonNullable<ComparisonResult['validations']>[number];

/** An arm whose layers were looked at. */
interface Seen {
  name: string;
  /** By seed. */
  runs: Validation[][];
}

export function reachBlocks(arms: readonly Compared[]): ReportBlock[] {
  const seen = arms.flatMap((arm): Seen[] => {
    const runs = resultsOf(arm)
      .map(({ validations = [] }) => validations.filter(({ distance }) => distance.length > 0))
      .filter((run) => run.length > 0);
    return runs.length > 0 ? [{ name: arm.name, runs }] : [];
  });
  if (seen.length === 0) return [];
  const layers = Math.max(...seen.map(({ runs }) => runs[0]![0]!.distance.length));
  const table = (title: string, of: (one: Validation) => readonly number[] | undefined, digits: number) =>
    layerTable(title, seen, layers, of, digits);
  return [
    { kind: 'heading', text: 'How far back layers look' },
    {
      ...{ kind: 'curves', name: 'reach-by-tokens', xLabel: 'tokens seen', yLabel: 'mean distance (tokens)' },
      ...{ yLog: true, curves: seen.map((one) => curveOf(one, ({ distance }) => mean(distance))) },
      caption: `Mean over layers and heads of the distance at which a token attends, in held-out text.${SHADED}`,
    },
    ...table('mean distance (tokens), by layer', ({ distance }) => distance, 1),
    ...table('remainder, by layer', ({ remainder }) => remainder, 3),
    ...skippedBlocks(seen),
    ...table('tiles skipped (%), by layer', ({ skipped }) => skipped?.map((share) => 100 * share), 0),
  ];
}

const SHADED = ' Shaded, where there are several seeds: from the lowest to the highest.';

function curveOf({ name, runs }: Seen, value: (one: Validation) => number) {
  return { name, points: spreadOf(runs.map((run) => run.map((one) => ({ x: one.tokens, y: value(one) })))) };
}

function skippedBlocks(seen: readonly Seen[]): ReportBlock[] {
  const sticks = seen.filter(({ runs }) => runs.every((run) => run.every(({ skipped }) => skipped)));
  if (sticks.length === 0) return [];
  return [
    {
      ...{ kind: 'curves', name: 'skipped-by-tokens', xLabel: 'tokens seen', yLabel: 'tiles skipped (%)' },
      yFromZero: true,
      curves: sticks.map((one) => curveOf(one, ({ skipped }) => 100 * mean(skipped!))),
      caption: `Mean over layers and heads of the tiles, 64 queries by 64 keys, that no stick reaches, in windows of the training length.${SHADED}`,
    },
  ];
}

/** How many points of the training a table shows. */
const ROWS = 4;

/** The mean over seeds, layer by layer, from the first look to the last. */
function layerTable(
  title: string,
  seen: readonly Seen[],
  layers: number,
  of: (one: Validation) => readonly number[] | undefined,
  digits: number,
): ReportBlock[] {
  const numbers = Array.from({ length: layers }, (_, layer) => layer);
  const rows = seen.flatMap(({ name, runs }) => {
    const [first] = runs as [Validation[]];
    if (!of(first[0]!)) return [];
    const picked = new Set(Array.from({ length: ROWS }, (_, i) => Math.round((i * (first.length - 1)) / (ROWS - 1))));
    return [...picked].map((i) => {
      const there = runs.flatMap((run) => (run[i] ? [of(run[i])!] : []));
      const cell = (layer: number) => {
        const values = there.flatMap((values) => values[layer] ?? []);
        return values.length > 0 ? mean(values).toFixed(digits) : '';
      };
      return [name, `${(first[i]!.tokens / 1e6).toFixed(1)}`, ...numbers.map(cell)];
    });
  });
  if (rows.length === 0) return [];
  return [{ kind: 'table', columns: [title, 'million tokens', ...numbers.map((layer) => `${layer + 1}`)], rows }];
}
