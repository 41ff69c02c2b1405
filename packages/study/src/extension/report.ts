import type { Curve, Finding } from '@stickbreaking/eval';
import type { StudyReport } from '../study.js';
import { withCloseUp } from '../text/close_up.js';
import { lengthsUpTo } from '../text/evaluate.js';
import { keptResults, rowsOf, triedOf, triedRates } from '../text/rates.js';
import { mean, spreadOf } from '../text/spread.js';
import type { ExtensionConfig, ExtensionResult } from './config.js';
import { type Phase, phasesOf, planned } from './plan.js';

type Results = ReadonlyMap<string, ExtensionResult>;

export function reportExtension(config: ExtensionConfig, results: Results): StudyReport {
  const { contextLength } = config.training;
  const longer = config.extension.factor * contextLength;
  const lengths = lengthsUpTo(contextLength, config.evaluation.times);
  const all = planned(config);
  const [firstSeed] = config.seeds as [number];
  const of = (name: string, phase: Phase) =>
    keptResults(
      all.filter((one) => one.arm.name === name && one.phase === phase),
      firstSeed,
      results,
    );
  const lines = config.arms.flatMap((arm) =>
    phasesOf(arm)
      .filter((phase) => of(arm.name, phase).length > 0)
      .map((phase) => ({ name: arm.name, phase, label: `${arm.name}, ${phase}`, results: of(arm.name, phase) })),
  );
  const nll = (name: string, phase: Phase) =>
    lengths.map((length) =>
      mean(of(name, phase).flatMap((one) => one.lengths.find((each) => each.length === length)?.nll ?? [])),
    );
  const curves: Curve[] = lines.map(({ label, results }) => ({
    name: label,
    points: spreadOf(results.map((one) => one.lengths.map(({ length, nll }) => ({ x: length, y: nll })))),
  }));
  return {
    title: 'Extending the context: before and after',
    findings: findingsOf(config, lines, nll, lengths),
    blocks: [
      {
        kind: 'text',
        text: `Models trained at ${contextLength} tokens, then trained on at ${longer} by the paper’s recipe (appendix C.1: the learning rate rises to ${config.extension.peak} in ${config.extension.warmupSteps} steps and falls exponentially to zero; here over ${config.extension.steps} steps of ${config.extension.batchTokens} tokens, there over 6,250 of 4 million). “Before” is before that; “scaled” is the same model with the RoPE scaling that the extension trains with.`,
      },
      { kind: 'heading', text: 'Loss by context length (figure 8)' },
      ...withCloseUp({
        ...{ kind: 'curves', name: 'extension', curves, mark: { x: longer, label: 'extended to' } },
        ...{ xLabel: 'context length (tokens)', yLabel: 'loss (nats per token)', xLog2: true },
        caption: 'Lower is better. The dotted line is the extended context.',
      }),
      {
        kind: 'table',
        columns: ['loss', ...lengths.map((length) => `${length}`)],
        rows: lines.map(({ name, phase, label }) => [label, ...nll(name, phase).map((value) => value.toFixed(4))]),
      },
      ...triedRates(triedOf(all, firstSeed, results)),
    ],
    rows: rowsOf(all, results, ({ phase }) => ({ phase })),
  };
}

function findingsOf(
  config: ExtensionConfig,
  lines: readonly { name: string; phase: Phase }[],
  nll: (name: string, phase: Phase) => number[],
  lengths: readonly number[],
): Finding[] {
  const source = 'appendix C.1, figure 8';
  const extended = lengths.indexOf(config.extension.factor * config.training.contextLength);
  const has = (name: string, phase: Phase) => lines.some((line) => line.name === name && line.phase === phase);
  const shown = (values: number[]) =>
    values
      .slice(extended)
      .map((value) => value.toFixed(3))
      .join(', ');
  const findings: Finding[] = [];
  const [stick, rope] = ['stick-breaking', 'RoPE'];
  if (extended < 0 || extended === lengths.length - 1) return [];
  if (has(stick, 'after')) {
    const values = nll(stick, 'after');
    findings.push({
      expected: 'After the extension stick-breaking’s loss goes on falling past the extended context.',
      source,
      found: `From ${lengths[extended]} tokens on: ${shown(values)}.`,
      verdict: values.at(-1)! < values[extended]! ? 'agrees' : 'disagrees',
    });
  }
  if (has(rope, 'after')) {
    const values = nll(rope, 'after');
    const before = nll(rope, has(rope, 'before, scaled') ? 'before, scaled' : 'before');
    findings.push({
      expected: 'Softmax+RoPE improves with the extension, and its loss still rises past the extended context.',
      source,
      found: `From ${lengths[extended]} tokens on: ${shown(values)} after, ${shown(before)} before.`,
      verdict: values[extended]! < before[extended]! && values.at(-1)! > values[extended]! ? 'agrees' : 'disagrees',
    });
  }
  if (has(rope, 'before, scaled')) {
    const [plain, scaled] = [nll(rope, 'before'), nll(rope, 'before, scaled')];
    findings.push({
      expected:
        'Before it, RoPE scaling lets the model extrapolate somewhat to the extended context, and the loss spikes beyond.',
      source,
      found: `At ${lengths[extended]} tokens ${scaled[extended]!.toFixed(3)} with scaling, ${plain[extended]!.toFixed(3)} without; at ${lengths.at(-1)} tokens ${scaled.at(-1)!.toFixed(3)} with it.`,
      verdict: scaled[extended]! < plain[extended]! && scaled.at(-1)! > scaled[extended]! ? 'agrees' : 'disagrees',
    });
  }
  if (has(stick, 'after') && has(rope, 'after')) {
    const [s, r] = [nll(stick, 'after').at(-1)!, nll(rope, 'after').at(-1)!];
    findings.push({
      expected: 'At the longest context stick-breaking is better than softmax+RoPE after the extension.',
      source,
      found: `At ${lengths.at(-1)} tokens: stick-breaking ${s.toFixed(3)}, softmax+RoPE ${r.toFixed(3)}.`,
      verdict: s < r ? 'agrees' : 'disagrees',
    });
  }
  return findings;
}
