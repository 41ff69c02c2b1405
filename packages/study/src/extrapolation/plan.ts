/** What is trained and evaluated: every method with its learning rates, for every seed. */
import { UserError } from '@stickbreaking/base';
import { type Rate, rateLabel, ratesOf, type Swept } from '../text/rates.js';
import type { ExtrapolationArm, ExtrapolationConfig } from './config.js';

export interface Planned extends Swept {
  arm: ExtrapolationArm;
  /** The arm whose weights it has: itself, unless it is `of` another. */
  trained: ExtrapolationArm;
}

/** All of a seed before the next seed: a report of half a study compares all methods. */
export function planned(config: ExtrapolationConfig): Planned[] {
  return config.seeds.flatMap((seed) =>
    config.arms.flatMap((arm) => {
      const trained = config.arms.find(({ id }) => id === arm.of) ?? arm;
      const rates = ratesOf(config, trained);
      const idOf = (of: string, rate: Rate, seed: number) => `${of}${rateLabel(rates, rate)}, seed ${seed}`;
      const trainedId = (rate: Rate, seed: number) => idOf(trained.id, rate, seed);
      return rates.map((rate) => ({ id: idOf(arm.id, rate, seed), arm, trained, rate, seed, rates, trainedId }));
    }),
  );
}

export const plannedOf = (config: ExtrapolationConfig, id: string) => planned(config).find((one) => one.id === id)!;

/** @throws UserError where an arm is `of` none that is trained before it, or names rates that its weights do not have */
export function checkArms({ arms }: ExtrapolationConfig): void {
  for (const { id, of, learningRates } of arms) {
    if (of === undefined) continue;
    const base = arms.find((arm) => arm.id === of);
    if (!base) throw new UserError(`Arm '${id}' is of '${of}', and no arm has that id.`);
    if (base.of) throw new UserError(`Arm '${id}' is of '${of}', which is itself of '${base.of}'; name that one.`);
    if (arms.indexOf(base) > arms.findIndex((arm) => arm.id === id)) {
      throw new UserError(`Arm '${id}' is of '${of}', which comes after it; move it behind that one.`);
    }
    if (learningRates) {
      throw new UserError(`Arm '${id}' is of '${of}' and is not trained; give learningRates to '${of}' instead.`);
    }
  }
}
