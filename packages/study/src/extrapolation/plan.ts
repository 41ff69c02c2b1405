/** What is trained and evaluated: every method with its learning rates, for every seed. */
import { UserError } from '@stickbreaking/core';
import { bestRate, lossAtTrainingLength, type Rate, rateLabel, ratesOf } from '../text/rates.js';
import type { ExtrapolationArm, ExtrapolationConfig, ExtrapolationResult } from './config.js';

export interface Planned {
  id: string;
  arm: ExtrapolationArm;
  /** The arm whose weights it has: itself, unless it is `of` another. */
  trained: ExtrapolationArm;
  rate: Rate;
  seed: number;
}

type Results = ReadonlyMap<string, ExtrapolationResult>;

/** All of a seed before the next seed: a report of half a study compares all methods. */
export function planned(config: ExtrapolationConfig): Planned[] {
  return config.seeds.flatMap((seed) =>
    config.arms.flatMap((arm) => {
      const trained = trainedArm(config, arm);
      return ratesOf(config, trained).map((rate) => ({
        ...{ arm, trained, rate, seed },
        id: armId(config, arm, rate, seed),
      }));
    }),
  );
}

export const plannedOf = (config: ExtrapolationConfig, id: string) => planned(config).find((one) => one.id === id)!;

export function armId(config: ExtrapolationConfig, arm: ExtrapolationArm, rate: Rate, seed: number): string {
  return `${arm.name}${rateLabel(ratesOf(config, trainedArm(config, arm)), rate)}, seed ${seed}`;
}

const trainedArm = ({ arms }: ExtrapolationConfig, arm: ExtrapolationArm) =>
  arms.find(({ name }) => name === arm.of) ?? arm;

/** The arm's rates with their losses, of the first seed. */
export function triedOf(config: ExtrapolationConfig, arm: ExtrapolationArm, results: Results) {
  const trained = trainedArm(config, arm);
  const lossOf = (rate: Rate) => lossAtTrainingLength(results.get(armId(config, trained, rate, config.seeds[0]!)));
  return { name: arm.name, rates: ratesOf(config, trained), lossOf };
}

/** A method's results with the rate that it keeps, a seed each. */
export function resultsOf(config: ExtrapolationConfig, arm: ExtrapolationArm, results: Results) {
  const { rates, lossOf } = triedOf(config, arm, results);
  const { rate } = bestRate(rates, lossOf);
  return config.seeds.flatMap((seed) => results.get(armId(config, arm, rate, seed)) ?? []);
}

/** Ids of what must be known first: whose weights it has, and which rate is kept. */
export function earlierThan(config: ExtrapolationConfig, { arm, trained, rate, seed }: Planned): string[] {
  const [first] = config.seeds;
  const base = arm === trained ? [] : [armId(config, trained, rate, seed)];
  if (arm === trained && seed === first) return base;
  return [...base, ...ratesOf(config, trained).map((each) => armId(config, trained, each, first!))];
}

export function needless(config: ExtrapolationConfig, one: Planned, results: Results): string | undefined {
  const { arm, trained, rate, seed } = one;
  if (arm === trained && seed === config.seeds[0]) return undefined;
  const { rates, lossOf } = triedOf(config, trained, results);
  const best = bestRate(rates, lossOf);
  if (!best.decided || best.rate === rate) return undefined;
  return `${armId(config, trained, best.rate, config.seeds[0]!)} is better at the training length`;
}

/** @throws UserError where an arm is `of` none that is trained before it, or names rates that its weights do not have */
export function checkArms({ arms }: ExtrapolationConfig): void {
  for (const { name, of, learningRates } of arms) {
    if (of === undefined) continue;
    const base = arms.find((arm) => arm.name === of);
    if (!base) throw new UserError(`Arm '${name}' is of '${of}', and there is no arm of that name.`);
    if (base.of) throw new UserError(`Arm '${name}' is of '${of}', which is itself of '${base.of}'; name that one.`);
    if (arms.indexOf(base) > arms.findIndex((arm) => arm.name === name)) {
      throw new UserError(`Arm '${name}' is of '${of}', which comes after it; move it behind that one.`);
    }
    if (learningRates) {
      throw new UserError(`Arm '${name}' is of '${of}' and is not trained; give learningRates to '${of}' instead.`);
    }
  }
}
