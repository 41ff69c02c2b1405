/** What is trained and evaluated: every method before and after, with its learning rates, for every seed. */
import { type Rate, rateLabel, ratesOf, type Swept } from '../text/rates.js';
import type { ExtensionArm, ExtensionConfig } from './config.js';

/** Trained at L; the same weights under the extension's attention, where that differs; trained on at the longer context. */
export const phases = ['before', 'before, scaled', 'after'] as const;
export type Phase = (typeof phases)[number];

export interface Planned extends Swept {
  arm: ExtensionArm;
  phase: Phase;
}

export function phasesOf({ extended }: ExtensionArm): Phase[] {
  return phases.filter((phase) => phase !== 'before, scaled' || extended !== undefined);
}

export function planned(config: ExtensionConfig): Planned[] {
  return config.seeds.flatMap((seed) =>
    config.arms.flatMap((arm) => {
      const rates = ratesOf(config, arm);
      const idOf = (phase: Phase, rate: Rate, seed: number) =>
        `${arm.id}${rateLabel(rates, rate)}, ${phase}, seed ${seed}`;
      const trainedId = (rate: Rate, seed: number) => idOf('before', rate, seed);
      return phasesOf(arm).flatMap((phase) =>
        rates.map((rate) => ({ id: idOf(phase, rate, seed), arm, phase, rate, seed, rates, trainedId })),
      );
    }),
  );
}

export const plannedOf = (config: ExtensionConfig, id: string) => planned(config).find((one) => one.id === id)!;
