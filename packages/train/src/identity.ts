// What the numbers of a run depend on. It is saved with every checkpoint; a run that is resumed must agree with it, or
// its losses would be neither the old run's nor a new one's.
import { isDeepStrictEqual } from 'node:util';
import { EXIT, ownValue, UserError } from '@stickbreaking/base';
import type { LlamaConfig } from '@stickbreaking/model';
import type { TrainingState } from './checkpoint.js';
import { saidIdentity } from './implied.js';
import type { OptimizerSettings } from './optimizer.js';
import { isOpenEnded, type Schedule } from './schedule.js';
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
 * Compares a checkpoint's identity with the run's: of the stages, those that had begun. Later ones may be changed or
 * added, and the last that had begun may have another length where its schedule does not depend on it.
 *
 * @throws UserError that names the first key in which they differ
 */
export function checkIdentity(
  saved: Record<string, unknown>,
  own: Identity,
  { stage, stageStep }: Pick<TrainingState, 'stage' | 'stageStep'>,
  checkpoint: string,
): void {
  const begun = stage + (stageStep > 0 ? 1 : 0);
  const savedStages = stagesOf(saved).slice(0, begun);
  const ownStages = stagesOf(own).slice(0, begun);
  const [last, now] = [savedStages.at(-1), ownStages.at(-1)];
  const done = stageStep > 0 ? stageStep : Number(last?.steps);
  if (last && now && isOpenEnded(now.schedule as Schedule) && Number(now.steps) >= done) now.steps = last.steps;
  // Checkpoints of version 0.1.0 do not say what data a stage read.
  for (const [i, one] of savedStages.entries()) if (!('data' in one) && ownStages[i]) delete ownStages[i].data;
  const difference = firstDifference(
    saidIdentity({ ...saved, stages: savedStages }),
    saidIdentity({ ...own, stages: ownStages }),
  );
  if (!difference) return;
  const { path, before, after } = difference;
  throw new UserError(
    `The checkpoint ${checkpoint} is of another configuration: ${path} was ${say(before)} and is ${say(after)} now; ` +
      'change it back, or start a new run with another output.',
    { exitCode: EXIT.refused },
  );
}

export interface Difference {
  /** Keys joined by dots. */
  path: string;
  before: unknown;
  after: unknown;
}

/** The stages, each a copy. */
function stagesOf({ stages }: Record<string, unknown>): Record<string, unknown>[] {
  return Array.isArray(stages) ? stages.map((stage) => ({ ...stage })) : [];
}

/** The first key in which two pieces of plain JSON differ, with both values. */
export function firstDifference(before: unknown, after: unknown, path: readonly string[] = []): Difference | undefined {
  if (isDeepStrictEqual(before, after)) return undefined;
  const isMapping = (value: unknown) => typeof value === 'object' && value !== null;
  if (!isMapping(before) || !isMapping(after)) return { path: path.join('.'), before, after };
  const [a, b] = [before as Record<string, unknown>, after as Record<string, unknown>];
  for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
    const inner = firstDifference(ownValue(a, key), ownValue(b, key), [...path, key]);
    if (inner) return inner;
  }
  return undefined;
}

/** A value as a message shows it. */
export const say = (value: unknown) => (value === undefined ? 'not set' : JSON.stringify(value));
