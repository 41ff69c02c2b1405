// Numbers that are not finite: the step is skipped and said, a run that has too many of them ends, and nothing of the kind is saved.
import { UserError } from '@stickbreaking/base';
import { areFinite } from '@stickbreaking/model';
import type { Tensor } from '@tensorflow/tfjs-core';
import type { CheckpointStore, TrainingState } from './checkpoint.js';
import type { Collective } from './collective.js';
import type { StepMetrics } from './metrics.js';
import type { StepRouting } from './routing.js';

/**
 * What is said of a step that was skipped.
 *
 * @param nonFiniteSteps such steps in a row, this one included
 * @param most how many of them end the run
 */
export function skippedNotice(
  { step, loss }: Pick<StepMetrics, 'step' | 'loss'>,
  routing: Pick<StepRouting, 'notFinite'> | undefined,
  nonFiniteSteps: number,
  most: number,
): string {
  const first = routing?.notFinite;
  const of = first === undefined ? '' : `, first seen in the router of layer ${first}`;
  const what = loss === null ? 'loss' : 'gradient';
  return (
    `step ${step}: the ${what} is not finite${of}; the step is skipped and the parameters stay as they are ` +
    `(${nonFiniteSteps} in a row, the run stops at ${most})`
  );
}

/** The run cannot go on from here; what it last had of worth is named. */
export function diverged(
  when: string,
  { step, nonFiniteSteps }: Pick<TrainingState, 'step' | 'nonFiniteSteps'>,
  store: CheckpointStore | undefined,
): UserError {
  // The parameters of a checkpoint are known to be good when the step after it was.
  const firstBad = step - nonFiniteSteps + 1;
  const good = store?.steps().findLast((saved) => saved + 1 < firstBad);
  return new UserError(
    `The loss or its gradient was not finite ${when}, up to step ${step}. ${goodCheckpoint(store, good)}; ` +
      'lower the learning rate, or look at the data of these steps.',
  );
}

/**
 * A loss says nothing about the update after it: what is saved is looked at itself.
 *
 * @param sharedBy the processes that each have a part of it, if there are such
 * @throws UserError where one of the numbers is not finite
 */
export async function checkWorthSaving(
  tensors: readonly Tensor[],
  sharedBy: Collective | undefined,
  step: number,
  store: CheckpointStore | undefined,
): Promise<void> {
  const isBad = (await areFinite(tensors)) ? 0 : 1;
  const [bad] = sharedBy ? await sharedBy.sumNumbers([isBad]) : [isBad];
  if (bad === 0) return;
  throw new UserError(
    `The weights or the optimizer's moments are not finite after step ${step}, so they are not saved. ` +
      `${goodCheckpoint(store, store?.steps().at(-1))}; lower the learning rate or the weight decay.`,
  );
}

function goodCheckpoint(store: CheckpointStore | undefined, step: number | undefined): string {
  return step === undefined ? 'No checkpoint is known to be good' : `The last good checkpoint is ${store!.path(step)}`;
}
