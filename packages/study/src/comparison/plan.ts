/** What is trained: every arm with every combination of its grid's values, with its learning rates, for every seed. */
import { UserError } from '@stickbreaking/base';
import { type Rate, rateLabel, ratesOf, type Swept } from '../text/rates.js';
import { type ComparisonConfig, type Variant, VariantSchema } from './config.js';

export interface Planned extends Swept {
  variant: Variant;
}

type Settings = Readonly<Record<string, unknown>>;

/** All of a seed before the next seed: a report of half a study compares all arms. */
export function planned(config: ComparisonConfig): Planned[] {
  const variants = variantsOf(config);
  return config.seeds.flatMap((seed) =>
    variants.flatMap(({ arm, variant, rates }) => {
      const trainedId = (rate: Rate, seed: number) => `${arm.id}${rateLabel(rates, rate)}, seed ${seed}`;
      return rates.map((rate) => ({ id: trainedId(rate, seed), arm, variant, rate, seed, rates, trainedId }));
    }),
  );
}

export const plannedOf = (config: ComparisonConfig, id: string) => planned(config).find((one) => one.id === id)!;

/** Every arm as the report names it. @throws UserError where the baseline or a prediction names one that is not there */
export function checkNames(config: ComparisonConfig): void {
  const names = variantsOf(config).map(({ arm }) => arm.name);
  const check = (key: string, name: string) => {
    if (names.includes(name)) return;
    throw new UserError(`${key} is '${name}', and no arm is called that; there are ${names.join('; ')}.`);
  };
  if (config.baseline !== undefined) check('baseline', config.baseline);
  for (const [i, { lower, than }] of config.predictions.entries()) {
    check(`predictions.${i}.lower`, lower);
    check(`predictions.${i}.than`, than);
  }
}

function variantsOf(config: ComparisonConfig): { arm: Planned['arm']; variant: Variant; rates: Rate[] }[] {
  return config.arms.flatMap((arm) =>
    combinations({ ...config.grid, ...arm.grid }).map((combination) => {
      const label = Object.entries(combination).map(([path, value]) => `, ${path.split('.').at(-1)} ${shown(value)}`);
      const named = { id: arm.id + label.join(''), name: arm.name + label.join('') };
      const model = arm.attention === undefined ? config.model : { ...config.model, attention: arm.attention };
      const settings = { ...arm.set, ...combination };
      const variant = variantWith({ model, training: config.training }, settings, named.name);
      return { arm: named, variant, rates: ratesOf(config, arm) };
    }),
  );
}

const shown = (value: unknown) => (typeof value === 'object' ? JSON.stringify(value) : String(value));

function combinations(grid: Readonly<Record<string, readonly unknown[]>>): Settings[] {
  return Object.entries(grid).reduce<Settings[]>(
    (all, [path, values]) => all.flatMap((one) => values.map((value) => ({ ...one, [path]: value }))),
    [{}],
  );
}

/** @throws UserError that names the arm, the key and what was expected */
function variantWith(base: Variant, settings: Settings, name: string): Variant {
  const changed = structuredClone(base) as unknown as Record<string, unknown>;
  for (const [path, value] of Object.entries(settings)) {
    if (!/^(model|training)(\.(?!__proto__\b)\w+)+$/.test(path)) {
      throw new UserError(
        `Arm '${name}': '${path}' is no key of model or training, such as model.attention.initialReach.`,
      );
    }
    const keys = path.split('.');
    let place = changed;
    for (const key of keys.slice(0, -1)) {
      place[key] ??= {};
      if (typeof place[key] !== 'object') throw new UserError(`Arm '${name}': ${path}: '${key}' has no keys.`);
      place = place[key] as Record<string, unknown>;
    }
    // As in a file that extends another, null takes a key out.
    if (value === null) delete place[keys.at(-1)!];
    else place[keys.at(-1)!] = value;
  }
  const parsed = VariantSchema.safeParse(changed);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new UserError(`Arm '${name}': ${issue.path.join('.')}: ${issue.message}.`);
}
