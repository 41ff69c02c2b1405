import type { Curve, Finding } from '@stickbreaking/eval';
import type { StudyReport } from '../study.js';
import { positionBlocks } from '../text/by_position.js';
import { withCloseUp } from '../text/close_up.js';
import { lengthsUpTo } from '../text/evaluate.js';
import { keptResults, rowsOf, triedOf, triedRates } from '../text/rates.js';
import { meanNll, spreadOf } from '../text/spread.js';
import type { ExtensionConfig, ExtensionResult } from './config.js';
import { type Phase, phasesOf, planned } from './plan.js';

type Results = ReadonlyMap<string, ExtensionResult>;

export function reportExtension(config: ExtensionConfig, results: Results): StudyReport {
  const { contextLength } = config.training;
  const longer = config.extension.factor * contextLength;
  const lengths = lengthsUpTo(contextLength, config.evaluation.times);
  const all = planned(config);
  const [firstSeed] = config.seeds as [number];
  const of = ({ id }: { id: string }, phase: Phase) =>
    keptResults(
      all.filter((one) => one.arm.id === id && one.phase === phase),
      firstSeed,
      results,
    );
  const lines = config.arms.flatMap((arm) =>
    phasesOf(arm)
      .map((phase) => ({ id: arm.id, phase, label: `${arm.name}, ${phase}`, results: of(arm, phase) }))
      .filter(({ results }) => results.length > 0)
      .map((line) => ({ ...line, nll: lengths.map((length) => meanNll(line.results, length)) })),
  );
  const curves: Curve[] = lines.map(({ label, results }) => ({
    name: label,
    points: spreadOf(results.map((one) => one.lengths.map(({ length, nll }) => ({ x: length, y: nll })))),
  }));
  const mark = { x: longer, label: 'extended to' };
  return {
    title: 'Extending the context: before and after',
    findings: findingsOf(config, lines, lengths),
    blocks: [
      {
        kind: 'text',
        text: `Models trained at ${contextLength} tokens, then trained on at ${longer} by the paper’s recipe (appendix C.1: the learning rate rises to ${config.extension.peak} in ${config.extension.warmupSteps} steps and falls exponentially to zero; here over ${config.extension.steps} steps of ${config.extension.batchTokens} tokens, there over 6,250 of 4 million). “Before” is before that; “scaled” is the same model with the RoPE scaling that the extension trains with.`,
      },
      { kind: 'heading', text: 'Loss by context length (figure 8)' },
      ...withCloseUp({
        ...{ kind: 'curves', name: 'extension', curves, mark },
        ...{ xLabel: 'context length (tokens)', yLabel: 'loss (nats per token)', xLog2: true },
        caption: 'Lower is better. The dotted line is the extended context.',
      }),
      {
        kind: 'table',
        columns: ['loss', ...lengths.map((length) => `${length}`)],
        rows: lines.map(({ label, nll }) => [label, ...nll.map((value) => value.toFixed(4))]),
      },
      ...positionBlocks(
        lines.map(({ label, results }) => ({ name: label, results })),
        mark,
      ),
      ...triedRates(triedOf(all, firstSeed, results)),
    ],
    rows: rowsOf(all, results, ({ phase }) => ({ phase })),
  };
}

/** The arms that the findings are about, by id. */
export const ids = { stickBreaking: 'stick-breaking', rope: 'RoPE' } as const;

interface Line {
  id: string;
  phase: Phase;
  /** By seed. */
  results: readonly ExtensionResult[];
  /** Mean loss by length. */
  nll: readonly number[];
}

/** Whether the seeds that both have are not all on the same side at the longest length. */
function seedsDisagree(one: Line, other: Line): boolean {
  const losses = [one, other].map(({ results }) => results.map(({ lengths }) => lengths.at(-1)!.nll));
  const [left, right] = losses as [number[], number[]];
  if (left.length !== right.length) return false;
  return new Set(left.map((value, i) => value < right[i]!)).size > 1;
}

function findingsOf(config: ExtensionConfig, lines: readonly Line[], lengths: readonly number[]): Finding[] {
  const source = 'appendix C.1, figure 8';
  const extended = lengths.indexOf(config.extension.factor * config.training.contextLength);
  if (extended < 0 || extended === lengths.length - 1) return [];
  const lineOf = (id: string, phase: Phase) => lines.find((line) => line.id === id && line.phase === phase);
  const of = (id: string, phase: Phase) => lineOf(id, phase)?.nll;
  const [stick, rope] = [of(ids.stickBreaking, 'after'), of(ids.rope, 'after')];
  const [plain, scaled] = [of(ids.rope, 'before'), of(ids.rope, 'before, scaled')];
  const shown = (values: readonly number[]) =>
    values
      .slice(extended)
      .map((value) => value.toFixed(3))
      .join(', ');
  const findings: Finding[] = [];
  const add = (expected: string, found: string, agrees: boolean) =>
    findings.push({ expected, source, found, verdict: agrees ? 'agrees' : 'disagrees' });
  if (stick) {
    add(
      'After the extension stick-breaking’s loss goes on falling past the extended context.',
      `From ${lengths[extended]} tokens on: ${shown(stick)}.`,
      stick.at(-1)! < stick[extended]!,
    );
  }
  const before = scaled ?? plain;
  if (rope && before) {
    add(
      'Softmax+RoPE improves with the extension, and its loss still rises past the extended context.',
      `From ${lengths[extended]} tokens on: ${shown(rope)} after, ${shown(before)} before.`,
      rope[extended]! < before[extended]! && rope.at(-1)! > rope[extended]!,
    );
  }
  if (plain && scaled) {
    add(
      'Before it, RoPE scaling lets the model extrapolate somewhat to the extended context, and the loss spikes beyond.',
      `At ${lengths[extended]} tokens ${scaled[extended]!.toFixed(3)} with scaling, ${plain[extended]!.toFixed(3)} without; at ${lengths.at(-1)} tokens ${scaled.at(-1)!.toFixed(3)} with it.`,
      scaled[extended]! < plain[extended]! && scaled.at(-1)! > scaled[extended]!,
    );
  }
  if (stick && rope) {
    const [s, r] = [stick.at(-1)!, rope.at(-1)!];
    const open = seedsDisagree(lineOf(ids.stickBreaking, 'after')!, lineOf(ids.rope, 'after')!);
    findings.push({
      expected: 'At the longest context stick-breaking is better than softmax+RoPE after the extension.',
      source,
      found: `At ${lengths.at(-1)} tokens: stick-breaking ${s.toFixed(3)}, softmax+RoPE ${r.toFixed(3)}${open ? '; the seeds disagree' : ''}.`,
      verdict: open ? 'open' : s < r ? 'agrees' : 'disagrees',
    });
  }
  return findings;
}
