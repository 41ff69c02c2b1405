/** Configurations with what they leave unsaid, so that two of them can be compared, and both values named. */
import { IMPLIED_BY_MODEL } from '@stickbreaking/model';

type Json = Record<string, unknown>;

/** What keys of an identity stand for where they are left out, beside those of its model. */
const IMPLIED_BY_RUN = {
  precision: 'default',
  // Versions that knew bfloat16 alone did not say so.
  residualType: 'bfloat16',
  'parallel.reduceType': 'float32',
  'optimizer.momentType': 'float32',
};
const IMPLIED_BY_STAGE = { 'schedule.warmupTokens': 0, 'schedule.warmupSteps': 0 };

/** A copy of a model's configuration that says everything, as plain JSON. */
export const saidModel = (config: unknown) => said(config, IMPLIED_BY_MODEL);

/** A copy of an identity that says everything. */
export function saidIdentity(identity: Json): Json {
  const copy = said({ parallel: {}, ...identity }, IMPLIED_BY_RUN) as Json;
  const { model, stages } = copy;
  return {
    ...copy,
    ...(model === undefined ? {} : { model: saidModel(model) }),
    ...(Array.isArray(stages) ? { stages: stages.map((stage) => said(stage, IMPLIED_BY_STAGE)) } : {}),
  };
}

/** A copy with the implied values, by their paths, where there is a section that can hold them and does not. */
function said(value: unknown, implied: Readonly<Record<string, unknown>>): unknown {
  const copy: unknown = JSON.parse(JSON.stringify(value));
  for (const [path, meant] of Object.entries(implied)) {
    const keys = path.split('.');
    const last = keys.pop()!;
    const section = keys.reduce((at, key) => (isMapping(at) ? at[key] : undefined), copy);
    if (isMapping(section) && section[last] === undefined) section[last] = meant;
  }
  return copy;
}

const isMapping = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
