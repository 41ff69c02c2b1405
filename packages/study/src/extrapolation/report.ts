import type { Curve, Finding } from '@stickbreaking/eval';
import type { StudyReport } from '../study.js';
import { nearLowest, withCloseUp } from '../text/close_up.js';
import { lengthsUpTo } from '../text/evaluate.js';
import { keptResults, rowsOf, triedOf, triedRates } from '../text/rates.js';
import { mean, spreadOf } from '../text/spread.js';
import type { ExtrapolationConfig, ExtrapolationResult } from './config.js';
import { planned } from './plan.js';

type Results = ReadonlyMap<string, ExtrapolationResult>;

/** The arms by the names that the findings know them by. */
export const names = {
  stickBreaking: 'stick-breaking',
  rope: 'RoPE',
  dynamic: 'RoPE, dynamic NTK',
  alibi: 'ALiBi',
  fire: 'FIRE',
  nope: 'NoPE',
  quarter: 'window L/4',
  half: 'window L/2',
  whole: 'window L',
} as const;

export function reportExtrapolation(config: ExtrapolationConfig, results: Results): StudyReport {
  const { contextLength } = config.training;
  const { times } = config.evaluation;
  const lengths = lengthsUpTo(contextLength, times);
  const all = planned(config);
  const [firstSeed] = config.seeds as [number];
  const ofArm = (name: string) =>
    keptResults(
      all.filter(({ arm }) => arm.name === name),
      firstSeed,
      results,
    );
  const present = config.arms.map(({ name }) => name).filter((name) => ofArm(name).length > 0);
  const nll = (name: string) => lengths.map((length) => meanNll(ofArm(name), length));
  const byLength: Curve[] = present.map((name) => ({
    name,
    points: spreadOf(ofArm(name).map((result) => result.lengths.map(({ length, nll }) => ({ x: length, y: nll })))),
  }));
  const byPosition: Curve[] = present.map((name) => ({
    name,
    points: spreadOf(
      ofArm(name).map(({ byPosition }) =>
        byPosition.filter(({ begin }) => begin >= 16).map(({ begin, nll }) => ({ x: begin, y: nll })),
      ),
    ),
  }));
  const axes = { xLabel: 'context length (tokens)', yLabel: 'loss (nats per token)', xLog2: true };
  const mark = { x: contextLength, label: 'training length' };
  const bySeeds = config.seeds.length > 1 ? ' Shaded: lowest to highest of the seeds.' : '';
  return {
    title: 'Past the training length: loss by context length',
    findings: findingsOf(present, nll, lengths),
    blocks: [
      {
        kind: 'text',
        text: `The same small LLaMA trained at a context of ${contextLength} tokens with every attention, then evaluated on text it has not seen, cut into windows of ${lengths[0]} to ${lengths.at(-1)} tokens. Where longer contexts are of use, the loss falls. RoPE’s scalings are applied to the model trained without them.`,
      },
      { kind: 'heading', text: 'Loss by context length (figure 5)' },
      ...withCloseUp({
        ...{ kind: 'curves', name: 'loss-by-length', ...axes, mark, curves: byLength },
        caption: `Lower is better; right of the dotted line no model was trained.${bySeeds}`,
      }),
      {
        kind: 'table',
        columns: ['loss', ...lengths.map((length) => `${length}`)],
        rows: present.map((name) => [name, ...nll(name).map((value) => value.toFixed(4))]),
      },
      ...triedRates(triedOf(all, firstSeed, results)),
      { kind: 'heading', text: 'Loss by position' },
      {
        ...{
          kind: 'curves',
          name: 'loss-by-position',
          ...axes,
          mark,
          curves: byPosition,
          yDomain: nearLowest(byLength),
        },
        xLabel: 'position in the window (tokens)',
        caption: `Windows of ${lengths.at(-1)} tokens: the mean loss of the tokens from each position up to the next.`,
      },
      { kind: 'heading', text: 'Training' },
      {
        kind: 'curves',
        name: 'training-loss',
        caption: 'Mean loss of the steps up to each point; the first seed.',
        xLabel: 'tokens seen',
        yLabel: 'loss (nats per token)',
        curves: config.arms
          .filter(({ name, of }) => !of && present.includes(name))
          .map(({ name }) => ({
            name,
            points: (ofArm(name)[0]!.losses ?? []).map(({ tokens, loss }) => ({ x: tokens, y: loss })),
          })),
      },
    ],
    rows: rowsOf(all, results),
  };
}

function meanNll(results: readonly ExtrapolationResult[], length: number): number {
  return mean(results.flatMap((result) => result.lengths.find((one) => one.length === length)?.nll ?? []));
}

/** Changes below this are not told apart from none. */
const NOTHING = 0.005;

/** Lower at the longest length than at the first, and at no length higher than at the one before. */
function keepsFalling(values: readonly number[]): boolean {
  return (
    values.at(-1)! < values[0]! - NOTHING && values.every((value, i) => i === 0 || value < values[i - 1]! + NOTHING)
  );
}

const isWindow = (name: string) => ([names.quarter, names.half, names.whole] as string[]).includes(name);

function findingsOf(
  present: readonly string[],
  nll: (name: string) => number[],
  lengths: readonly number[],
): Finding[] {
  const source = 'section 5.2, figure 5';
  const factor = lengths.at(-1)! / lengths[0]!;
  const findings: Finding[] = [];
  const ends = (name: string) => [nll(name)[0]!, nll(name).at(-1)!] as const;
  const shown = (name: string) => {
    const [first, last] = ends(name);
    return `${name} goes from ${first.toFixed(3)} at the training length to ${last.toFixed(3)} at ${factor} times it`;
  };
  const rise = (name: string) => ends(name)[1] - ends(name)[0];
  const has = (...wanted: string[]) => wanted.every((name) => present.includes(name));
  const add = (wanted: string[], expected: string, agrees: () => boolean, found?: () => string) => {
    if (!has(...wanted)) return;
    const text = found?.() ?? `${wanted.map(shown).join('; ')}.`;
    findings.push({ expected, source, found: text, verdict: agrees() ? 'agrees' : 'disagrees' });
  };
  const { stickBreaking, rope, dynamic, alibi, fire, nope, quarter, half, whole } = names;
  add(
    [stickBreaking],
    'Stick-breaking’s loss keeps falling as the context grows.',
    () => keepsFalling(nll(stickBreaking)),
    () =>
      `Stick-breaking by length: ${nll(stickBreaking)
        .map((value) => value.toFixed(4))
        .join(', ')}.`,
  );
  if (has(stickBreaking) && present.length > 1) {
    const last = present.map((name) => ({ name, value: ends(name)[1] })).sort((a, b) => a.value - b.value);
    findings.push({
      expected: 'At the longest context stick-breaking is better than every other method.',
      source,
      found: `Losses at ${lengths.at(-1)} tokens: ${last.map(({ name, value }) => `${name} ${value.toFixed(3)}`).join('; ')}.`,
      verdict: last[0]!.name === stickBreaking ? 'agrees' : 'disagrees',
    });
  }
  const falling = present.filter((name) => keepsFalling(nll(name)));
  add(
    [stickBreaking, rope],
    'Stick-breaking alone keeps falling; the other methods without a window rise, or stop.',
    () => falling.includes(stickBreaking) && falling.every((name) => name === stickBreaking || isWindow(name)),
    () =>
      `Of ${present.length} methods these fall from each length to the next, or stay within ${NOTHING} of it: ${falling.join(', ') || 'none'}.`,
  );
  add([rope], 'RoPE alone does not generalise: its loss rises.', () => rise(rope) > NOTHING);
  add(
    [rope, dynamic],
    'RoPE scaling alleviates this, but the loss still rises.',
    () => ends(dynamic)[1] < ends(rope)[1] && rise(dynamic) > NOTHING,
  );
  add([nope], 'NoPE’s loss rises as the context grows.', () => rise(nope) > NOTHING);
  add([alibi, fire], 'ALiBi does better than FIRE.', () => ends(alibi)[1] < ends(fire)[1]);
  const windows = [quarter, half, whole].filter((name) => has(name));
  if (windows.length > 0 && has(rope)) {
    add(windows, 'A window keeps the loss from spiking.', () =>
      windows.every((name) => rise(name) < 0.1 && rise(name) < rise(rope) / 2 + NOTHING),
    );
  }
  add([quarter, half, whole], 'Of the windows the shortest does worst, at the training length.', () =>
    [half, whole].every((name) => ends(quarter)[0] > ends(name)[0]),
  );
  return findings;
}
