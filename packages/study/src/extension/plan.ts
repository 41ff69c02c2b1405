/** What is trained and evaluated: every method before and after, with its learning rates, for every seed. */
import { isKept, lossesOf, type Rate, rateLabel, ratesOf, type Swept, type Tried } from '../text/rates.js';
import type { ExtensionArm, ExtensionConfig, ExtensionResult } from './config.js';

/** Trained at L; the same weights under the extension's attention, where that differs; trained on at the longer context. */
export const phases = ['before', 'before, scaled', 'after'] as const;
export type Phase = (typeof phases)[number];

export interface Planned extends Swept {
  arm: ExtensionArm;
  phase: Phase;
}

type Results = ReadonlyMap<string, ExtensionResult>;

export function phasesOf({ extended }: ExtensionArm): Phase[] {
  return phases.filter((phase) => phase !== 'before, scaled' || extended !== undefined);
}

export function planned(config: ExtensionConfig): Planned[] {
  return config.seeds.flatMap((seed) =>
    config.arms.flatMap((arm) => {
      const rates = ratesOf(config, arm);
      const idOf = (phase: Phase, rate: Rate, seed: number) =>
        `${arm.name}${rateLabel(rates, rate)}, ${phase}, seed ${seed}`;
      const trainedId = (rate: Rate, seed: number) => idOf('before', rate, seed);
      return phasesOf(arm).flatMap((phase) =>
        rates.map((rate) => ({ id: idOf(phase, rate, seed), arm, phase, rate, seed, rates, trainedId })),
      );
    }),
  );
}

export const plannedOf = (config: ExtensionConfig, id: string) => planned(config).find((one) => one.id === id)!;

/** A method's results in a phase with the rate that it keeps, a seed each. */
export function resultsOf(config: ExtensionConfig, name: string, phase: Phase, results: Results): ExtensionResult[] {
  return planned(config)
    .filter((one) => one.arm.name === name && one.phase === phase && isKept(one, config.seeds[0]!, results))
    .flatMap(({ id }) => results.get(id) ?? []);
}

export function triedOf(config: ExtensionConfig, results: Results): Tried[] {
  const all = planned(config);
  return config.arms.map(({ name }) => {
    const one = all.find(({ arm }) => arm.name === name)!;
    return { name, rates: one.rates, lossOf: lossesOf(one, config.seeds[0]!, results) };
  });
}
