import type { Curve, Finding } from '@stickbreaking/eval';
import type { StudyReport } from '../study.js';
import { positionBlocks } from '../text/by_position.js';
import { withCloseUp } from '../text/close_up.js';
import { lengthsUpTo } from '../text/evaluate.js';
import { keptResults, rowsOf, triedOf, triedRates } from '../text/rates.js';
import { meanNll, spreadOf } from '../text/spread.js';
import type { ExtrapolationConfig, ExtrapolationResult } from './config.js';
import { planned } from './plan.js';

type Results = ReadonlyMap<string, ExtrapolationResult>;

/** The arms that the findings are about, by id. */
export const ids = {
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
  const ofArm = ({ id }: { id: string }) =>
    keptResults(
      all.filter(({ arm }) => arm.id === id),
      firstSeed,
      results,
    );
  const present = config.arms.filter((arm) => ofArm(arm).length > 0);
  const nll = (arm: { id: string }) => lengths.map((length) => meanNll(ofArm(arm), length));
  const byLength: Curve[] = present.map((arm) => ({
    name: arm.name,
    points: spreadOf(ofArm(arm).map((result) => result.lengths.map(({ length, nll }) => ({ x: length, y: nll })))),
  }));
  const axes = { xLabel: 'context length (tokens)', yLabel: 'loss (nats per token)', xLog2: true };
  const mark = { x: contextLength, label: 'training length' };
  const bySeeds = config.seeds.length > 1 ? ' Shaded: lowest to highest of the seeds.' : '';
  return {
    title: 'Past the training length: loss by context length',
    findings: findingsOf(
      present.map((arm) => ({ ...arm, nll: nll(arm) })),
      lengths,
    ),
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
        rows: present.map((arm) => [arm.name, ...nll(arm).map((value) => value.toFixed(4))]),
      },
      ...triedRates(triedOf(all, firstSeed, results)),
      ...positionBlocks(
        present.map((arm) => ({ name: arm.name, results: ofArm(arm) })),
        mark,
      ),
      { kind: 'heading', text: 'Training' },
      {
        kind: 'curves',
        name: 'training-loss',
        caption: 'Mean loss of the steps up to each point; the first seed.',
        xLabel: 'tokens seen',
        yLabel: 'loss (nats per token)',
        curves: present
          .filter(({ of }) => !of)
          .map((arm) => ({
            name: arm.name,
            points: (ofArm(arm)[0]!.losses ?? []).map(({ tokens, loss }) => ({ x: tokens, y: loss })),
          })),
      },
    ],
    rows: rowsOf(all, results),
  };
}

/** Changes below this count as none. */
const NOTHING = 0.005;

/** Lower at the longest length than at the first, and at no length higher than at the one before. */
function keepsFalling(values: readonly number[]): boolean {
  return (
    values.at(-1)! < values[0]! - NOTHING && values.every((value, i) => i === 0 || value < values[i - 1]! + NOTHING)
  );
}

const windows: readonly string[] = [ids.quarter, ids.half, ids.whole];

interface Evaluated {
  id: string;
  name: string;
  /** Loss by length. */
  nll: readonly number[];
}

function findingsOf(present: readonly Evaluated[], lengths: readonly number[]): Finding[] {
  const source = 'section 5.2, figure 5';
  const factor = lengths.at(-1)! / lengths[0]!;
  const findings: Finding[] = [];
  const shown = ({ name, nll }: Evaluated) =>
    `${name} goes from ${nll[0]!.toFixed(3)} at the training length to ${nll.at(-1)!.toFixed(3)} at ${factor} times it`;
  const rise = ({ nll }: Evaluated) => nll.at(-1)! - nll[0]!;
  /** A finding about these arms, in this order, where all of them are there. */
  const add = (
    wanted: readonly string[],
    expected: string,
    agrees: (...arms: Evaluated[]) => boolean,
    found: (...arms: Evaluated[]) => string = (...arms) => `${arms.map(shown).join('; ')}.`,
  ) => {
    const arms = wanted.flatMap((id) => present.find((arm) => arm.id === id) ?? []);
    if (arms.length < wanted.length) return;
    findings.push({ expected, source, found: found(...arms), verdict: agrees(...arms) ? 'agrees' : 'disagrees' });
  };
  const { stickBreaking, rope, dynamic, alibi, fire, nope, quarter, half, whole } = ids;
  add(
    [stickBreaking],
    'Stick-breaking’s loss keeps falling as the context grows.',
    (stick) => keepsFalling(stick!.nll),
    (stick) => `Stick-breaking by length: ${stick!.nll.map((value) => value.toFixed(4)).join(', ')}.`,
  );
  const last = [...present].sort((a, b) => a.nll.at(-1)! - b.nll.at(-1)!);
  if (present.length > 1) {
    add(
      [stickBreaking],
      'At the longest context stick-breaking is better than every other method.',
      (stick) => last[0] === stick,
      () =>
        `Losses at ${lengths.at(-1)} tokens: ${last.map(({ name, nll }) => `${name} ${nll.at(-1)!.toFixed(3)}`).join('; ')}.`,
    );
  }
  const falling = present.filter(({ nll }) => keepsFalling(nll));
  add(
    [stickBreaking, rope],
    'Stick-breaking alone keeps falling; the other methods without a window rise, or stop.',
    (stick) => falling.includes(stick!) && falling.every((arm) => arm === stick || windows.includes(arm.id)),
    () =>
      `Of ${present.length} methods these fall from each length to the next, or stay within ${NOTHING} of it: ${falling.map(({ name }) => name).join(', ') || 'none'}.`,
  );
  add([rope], 'RoPE alone does not generalise: its loss rises.', (plain) => rise(plain!) > NOTHING);
  add(
    [rope, dynamic],
    'RoPE scaling alleviates this, but the loss still rises.',
    (plain, scaled) => scaled!.nll.at(-1)! < plain!.nll.at(-1)! && rise(scaled!) > NOTHING,
  );
  add([nope], 'NoPE’s loss rises as the context grows.', (none) => rise(none!) > NOTHING);
  add([alibi, fire], 'ALiBi does better than FIRE.', (a, f) => a!.nll.at(-1)! < f!.nll.at(-1)!);
  const windowed = windows.filter((id) => present.some((arm) => arm.id === id));
  if (windowed.length > 0) {
    // With RoPE last, which it is compared with and does not speak of.
    add(
      [...windowed, rope],
      'A window keeps the loss from spiking.',
      (...arms) => arms.slice(0, -1).every((arm) => rise(arm) < 0.1 && rise(arm) < rise(arms.at(-1)!) / 2 + NOTHING),
      (...arms) => `${arms.slice(0, -1).map(shown).join('; ')}.`,
    );
  }
  add(
    [quarter, half, whole],
    'Of the windows the shortest does worst, at the training length.',
    (shortest, ...longer) => longer.every((arm) => shortest!.nll[0]! > arm.nll[0]!),
  );
  return findings;
}
