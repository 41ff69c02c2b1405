import type { Curve, CurvePoint, Finding, ReportBlock } from '@stickbreaking/eval';
import type { Row, StudyReport } from '../study.js';
import { mean } from '../text/spread.js';
import type { SpeedConfig } from './config.js';
import type { Measured } from './measure.js';
import { SKIPPING, type SpeedResult, speedId } from './plan.js';
import type { SkippingResult } from './skipping.js';

type SpeedArm = SpeedConfig['arms'][number];
type Results = ReadonlyMap<string, SpeedResult>;

const GIB = 2 ** 30;

export function reportSpeed(config: SpeedConfig, results: Results): StudyReport {
  const lengths = [...new Set(config.arms.flatMap((arm) => arm.lengths ?? config.lengths))].sort((a, b) => a - b);
  const measured = (arm: string, length: number) => {
    const result = results.get(speedId(arm, length));
    return result && 'tokensPerSecond' in result ? result : undefined;
  };
  const curve = ({ id, name }: SpeedArm, point: (one: Measured) => Omit<CurvePoint, 'x'>): Curve => ({
    name,
    points: lengths.flatMap((length) => {
      const one = measured(id, length);
      return one ? [{ x: length, ...point(one) }] : [];
    }),
  });
  const present = config.arms.filter(({ id }) => lengths.some((length) => measured(id, length)));
  const curves = (point: (one: Measured) => Omit<CurvePoint, 'x'>) => present.map((arm) => curve(arm, point));
  const skipping = results.get(SKIPPING) as SkippingResult | undefined;
  const onDevice = present.some(({ id }) => lengths.some((length) => measured(id, length)?.peakOf === 'device'));
  const steps = `${config.steps} steps of ${config.tokens} tokens (one document where it is longer), after ${config.warmupSteps} to warm up; the median`;
  const table = (show: (one: Measured) => string) =>
    config.arms.map(({ id, name }) => [
      name,
      ...lengths.map((length) => cellOf(results.get(speedId(id, length)), show)),
    ]);
  return {
    title: 'Speed: training by context length, and the tiles skipped',
    findings: findingsOf(config, lengths, measured, skipping),
    blocks: [
      {
        kind: 'text',
        text: `Whole training steps (forward, backward, clipping, AdamW) of a model of ${config.model.numLayers} layers of ${config.model.hiddenSize}, ${config.model.numHeads} heads, for every attention: ${steps}. Each measurement runs in a process of its own, with fresh weights: an untrained stick-breaking model exhausts its sticks within some tens of tokens, so kernels that skip tiles gain more from it than from some trained ones (below: what a trained one skips).`,
      },
      { kind: 'heading', text: 'Training tokens per second' },
      {
        ...{ kind: 'curves', name: 'tokens-per-second', xLabel: 'context length (tokens)', yLabel: 'tokens/s' },
        ...{ xLog2: true, yLog: true, curves: curves(speedOf) },
        caption: 'Higher is better. Shaded, where it was noted: from the slowest to the fastest step.',
      },
      {
        kind: 'table',
        columns: ['tokens/s', ...lengths.map((length) => `${length}`)],
        rows: table(({ tokensPerSecond }) => tokensPerSecond.toFixed(0)),
      },
      { kind: 'heading', text: 'Memory' },
      {
        ...{ kind: 'curves', name: 'memory', xLabel: 'context length (tokens)', yLabel: 'GiB', xLog2: true },
        ...{ yFromZero: true, curves: curves(({ peakBytes }) => ({ y: peakBytes / GIB })) },
        caption: onDevice ? 'Most memory held on the device.' : 'Most memory held by the process, Node included.',
      },
      {
        kind: 'table',
        columns: ['GiB', ...lengths.map((length) => `${length}`)],
        rows: table(({ peakBytes }) => (peakBytes / GIB).toFixed(2)),
      },
      ...failures(config, lengths, results),
      ...(skipping ? drawSkipping(skipping) : []),
    ],
    rows: rowsOf(config, lengths, results),
  };
}

/** 0.001953125 as 2⁻⁹. */
function powerOfTwo(value: number): string {
  const raised: Record<string, string> = { '-': '⁻' };
  for (const [digit, sign] of [...'⁰¹²³⁴⁵⁶⁷⁸⁹'].entries()) raised[digit] = sign;
  return `2${[...`${Math.log2(value)}`].map((letter) => raised[letter] ?? letter).join('')}`;
}

function cellOf(result: SpeedResult | undefined, show: (one: Measured) => string): string {
  if (!result) return '';
  return 'tokensPerSecond' in result ? show(result) : '–';
}

const speedOf = ({ tokensPerSecond: y, slowestToFastest: [low, high] = [y, y] }: Measured) => ({ y, low, high });

function failures(config: SpeedConfig, lengths: readonly number[], results: Results): ReportBlock[] {
  const said = config.arms.flatMap(({ id, name }) =>
    lengths.flatMap((length) => {
      const result = results.get(speedId(id, length));
      return result && 'failed' in result ? [`${speedId(name, length)}: ${result.failed}`] : [];
    }),
  );
  return said.length > 0 ? [{ kind: 'text', text: `Not measured (–): ${said.join('; ')}.` }] : [];
}

function drawSkipping({ heads, length, windows, tile, thresholds, steps }: SkippingResult): ReportBlock[] {
  const layers = [...new Set(heads.map(({ layer }) => layer))];
  const columns = [...new Set(heads.map(({ head }) => head))].map((head) => `head ${head + 1}`);
  const rows = layers.map((layer) => `layer ${layer + 1}`);
  const buckets = Math.max(...heads.map(({ byDistance }) => byDistance.length));
  const trained = steps ? `a model trained for ${steps} steps` : 'the checkpoint';
  return [
    { kind: 'heading', text: 'Where stick-breaking attends' },
    {
      kind: 'text',
      text: `On ${windows} window${windows > 1 ? 's' : ''} of ${length} tokens of held-out text, with ${trained}. A block of ${tile} queries walks its keys from the nearest tile to the farthest; once all of its sticks are exhausted, the tiles further left are skipped.`,
    },
    ...thresholds.map(
      (threshold, i): ReportBlock => ({
        kind: 'matrix',
        name: `tiles-skipped-2e${Math.log2(threshold)}`,
        caption: `Share of tiles skipped, by layer and head, a stick being exhausted at ${powerOfTwo(threshold)} (${i === 0 ? 'what bfloat16 can tell' : 'what float32 can tell'}).`,
        values: heads.map(({ skipped }) => skipped[i]!),
        ...{ rows, columns, rowLabel: 'layer', columnLabel: 'head', showValues: true },
      }),
    ),
    {
      kind: 'curves',
      name: 'weight-by-distance',
      caption:
        'Share of a layer’s attention weight (its heads’ mean) by how far back the key stands: each point holds the distances up to the next one.',
      xLabel: 'distance (tokens)',
      yLabel: 'share of the weight',
      xLog2: true,
      curves: layers.map((layer) => ({
        name: `layer ${layer + 1}`,
        points: Array.from({ length: buckets }, (_, b) => ({
          x: 2 ** b,
          y: mean(heads.filter((one) => one.layer === layer).map(({ byDistance }) => byDistance[b] ?? 0)),
        })),
      })),
    },
    {
      kind: 'table',
      columns: ['', ...thresholds.map((threshold) => `tiles skipped at ${powerOfTwo(threshold)}`), 'remainder'],
      rows: layers.map((layer) => {
        const own = heads.filter((one) => one.layer === layer);
        const share = (value: number) => `${(100 * value).toFixed(1)} %`;
        return [
          `layer ${layer + 1}`,
          ...thresholds.map((_, i) => share(mean(own.map(({ skipped }) => skipped[i]!)))),
          share(mean(own.map(({ remainder }) => remainder))),
        ];
      }),
    },
  ];
}

/** The arms that the findings are about, by id. */
export const ids = { stickBreaking: 'stick-breaking', rope: 'softmax+RoPE' } as const;

function findingsOf(
  config: SpeedConfig,
  lengths: readonly number[],
  measured: (arm: string, length: number) => Measured | undefined,
  skipping: SkippingResult | undefined,
): Finding[] {
  const findings: Finding[] = [];
  const { stickBreaking: stick, rope } = ids;
  const both = lengths.filter((length) => measured(stick, length) && measured(rope, length));
  const ratio = (length: number) => measured(stick, length)!.tokensPerSecond / measured(rope, length)!.tokensPerSecond;
  if (both.length > 0) {
    const at = both.reduce((best, length) => (Math.abs(length - 4096) < Math.abs(best - 4096) ? length : best));
    const value = ratio(at);
    findings.push({
      expected:
        'Training with stick-breaking reaches 0.71 times the tokens per second of softmax+RoPE (a 1B model at 4,096 tokens, the paper’s kernel against FlashAttention-2).',
      source: 'section 4.1, throughput',
      found: `${value.toFixed(2)} times at ${at} tokens, with fresh weights, tiles being skipped; by length: ${both.map((length) => `${length}: ${ratio(length).toFixed(2)}`).join(', ')}.`,
      verdict: Math.abs(value - 0.71) <= 0.1 ? 'agrees' : 'disagrees',
    });
  }
  // Lengths whose steps have equally many tokens.
  const alike = lengths.filter((length) => measured(stick, length) && config.tokens % length === 0);
  if (alike.length > 1) {
    const [first, last] = [alike[0]!, alike.at(-1)!].map((length) => measured(stick, length)!.peakBytes / GIB);
    findings.push({
      expected: 'Memory is linear in the tokens: at a fixed number of tokens it does not grow with the context.',
      source: 'section 4.1',
      found: `${first!.toFixed(2)} GiB at ${alike[0]} tokens of context, ${last!.toFixed(2)} GiB at ${alike.at(-1)}.`,
      verdict: last! < 1.25 * first! ? 'agrees' : 'disagrees',
    });
  }
  if (skipping) {
    const share = mean(skipping.heads.map(({ skipped }) => skipped[0]!));
    findings.push({
      expected: 'Block skipping saves work on real text (9.3 % of the time at 16K tokens, forward only).',
      source: 'section 4.1, conditional computation',
      found: `${(100 * share).toFixed(1)} % of the tiles are skipped at ${skipping.length} tokens, a stick being exhausted at ${powerOfTwo(skipping.thresholds[0]!)}; ${(100 * mean(skipping.heads.map(({ skipped }) => skipped[1]!))).toFixed(1)} % at ${powerOfTwo(skipping.thresholds[1]!)}.`,
      verdict: share >= 0.05 ? 'agrees' : 'disagrees',
    });
  }
  return findings;
}

function rowsOf(config: SpeedConfig, lengths: readonly number[], results: Results): Row[] {
  return config.arms.flatMap(({ id, name }) =>
    lengths.flatMap((length) => {
      const result = results.get(speedId(id, length));
      if (!result || !('tokensPerSecond' in result)) return [];
      const { tokensPerSecond, peakBytes, peakOf } = result;
      return [{ attention: name, contextLength: length, tokensPerSecond, peakBytes, peakOf }];
    }),
  );
}
