/** What is trained and evaluated: every method before and after, with its learning rates, for every seed. */
import { bestRate, lossAtTrainingLength, type Rate, rateLabel, ratesOf } from '../text/rates.js';
import type { ExtensionArm, ExtensionConfig, ExtensionResult } from './config.js';

/** Trained at L; the same weights under the extension's attention, where that differs; trained on at the longer context. */
export const phases = ['before', 'before, scaled', 'after'] as const;
export type Phase = (typeof phases)[number];

export interface Planned {
  id: string;
  arm: ExtensionArm;
  phase: Phase;
  rate: Rate;
  seed: number;
}

type Results = ReadonlyMap<string, ExtensionResult>;

export function phasesOf({ extended }: ExtensionArm): Phase[] {
  return phases.filter((phase) => phase !== 'before, scaled' || extended !== undefined);
}

export function planned(config: ExtensionConfig): Planned[] {
  return config.seeds.flatMap((seed) =>
    config.arms.flatMap((arm) =>
      phasesOf(arm).flatMap((phase) =>
        ratesOf(config, arm).map((rate) => ({
          ...{ arm, phase, rate, seed },
          id: armId(config, arm, phase, rate, seed),
        })),
      ),
    ),
  );
}

export const plannedOf = (config: ExtensionConfig, id: string) => planned(config).find((one) => one.id === id)!;

export function armId(config: ExtensionConfig, arm: ExtensionArm, phase: Phase, rate: Rate, seed: number): string {
  return `${arm.name}${rateLabel(ratesOf(config, arm), rate)}, ${phase}, seed ${seed}`;
}

/** The arm's rates with the losses before the extension, of the first seed. */
export function triedOf(config: ExtensionConfig, arm: ExtensionArm, results: Results) {
  const lossOf = (rate: Rate) =>
    lossAtTrainingLength(results.get(armId(config, arm, 'before', rate, config.seeds[0]!)));
  return { name: arm.name, rates: ratesOf(config, arm), lossOf };
}

/** A method's results in a phase with the rate that it keeps, a seed each. */
export function resultsOf(config: ExtensionConfig, arm: ExtensionArm, phase: Phase, results: Results) {
  const { rates, lossOf } = triedOf(config, arm, results);
  const { rate } = bestRate(rates, lossOf);
  return config.seeds.flatMap((seed) => results.get(armId(config, arm, phase, rate, seed)) ?? []);
}

/** Ids of what must be known first: the model that it starts from, and which rate is kept. */
export function earlierThan(config: ExtensionConfig, { arm, phase, rate, seed }: Planned): string[] {
  const [first] = config.seeds;
  const start = phase === 'before' ? [] : [armId(config, arm, 'before', rate, seed)];
  if (phase === 'before' && seed === first) return start;
  return [...start, ...ratesOf(config, arm).map((each) => armId(config, arm, 'before', each, first!))];
}

export function needless(config: ExtensionConfig, one: Planned, results: Results): string | undefined {
  const { arm, phase, rate, seed } = one;
  if (phase === 'before' && seed === config.seeds[0]) return undefined;
  const { rates, lossOf } = triedOf(config, arm, results);
  const best = bestRate(rates, lossOf);
  if (!best.decided || best.rate === rate) return undefined;
  return `${armId(config, arm, 'before', best.rate, config.seeds[0]!)} is better at the training length`;
}
