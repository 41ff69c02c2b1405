// What the numbers of a run depend on. It is saved with every checkpoint; a run that is resumed must agree with it, or
// its losses would be neither the old run's nor a new one's.
import { isDeepStrictEqual } from 'node:util';
import { UserError } from '@stickbreaking/base';
import type { LlamaConfig } from '@stickbreaking/model';
import type { OptimizerSettings } from './optimizer.js';
import type { PlacedStage } from './stage.js';

export interface Identity extends Record<string, unknown> {
  model: LlamaConfig;
  seed: number;
  optimizer: OptimizerSettings;
  stages: Record<string, unknown>[];
}

export function identityOf(
  run: Pick<Identity, 'model' | 'seed' | 'optimizer'>,
  stages: readonly PlacedStage[],
  extra: Record<string, unknown> = {},
): Identity {
  return JSON.parse(
    JSON.stringify({
      ...extra,
      ...run,
      stages: stages.map(({ name, tokensBefore, microBatches, dataStage, ...rest }) => rest),
    }),
  ) as Identity;
}

/**
 * Compares a checkpoint's identity with the run's: of the stages, those that had begun. Later ones may be changed or added.
 *
 * @throws UserError that names the first key in which they differ
 */
export function checkIdentity(saved: Record<string, unknown>, own: Identity, begun: number, checkpoint: string): void {
  const upTo = (identity: Record<string, unknown>) => ({
    ...identity,
    stages: Array.isArray(identity.stages) ? identity.stages.slice(0, begun) : [],
  });
  const difference = firstDifference(upTo(saved), upTo(own), []);
  if (!difference) return;
  const { path, before, after } = difference;
  throw new UserError(
    `The checkpoint ${checkpoint} is of another configuration: ${path} was ${say(before)} and is ${say(after)} now; ` +
      'change it back, or start a new run with another output.',
  );
}

function firstDifference(
  before: unknown,
  after: unknown,
  path: string[],
): { path: string; before: unknown; after: unknown } | undefined {
  if (isDeepStrictEqual(before, after)) return undefined;
  const isMapping = (value: unknown) => typeof value === 'object' && value !== null;
  if (!isMapping(before) || !isMapping(after)) return { path: path.join('.'), before, after };
  const [a, b] = [before as Record<string, unknown>, after as Record<string, unknown>];
  for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
    const inner = firstDifference(a[key], b[key], [...path, key]);
    if (inner) return inner;
  }
  return undefined;
}

const say = (value: unknown) => (value === undefined ? 'not set' : JSON.stringify(value));
