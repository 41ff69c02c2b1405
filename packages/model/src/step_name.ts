/** Names of the directories of a run's checkpoints: step-00000123. */

/** Matches such a name. */
export const STEP = /^step-\d+$/;

/** The step of a checkpoint, by the name of its directory. */
export const stepIn = (name: string) => Number(name.slice('step-'.length));

/** Those of names that are of checkpoints, in the order of their steps. */
export const stepNames = (names: readonly string[]) =>
  names.filter((name) => STEP.test(name)).sort((a, b) => stepIn(a) - stepIn(b));

/** The name of a checkpoint's directory. */
export const nameOfStep = (step: number) => `step-${String(step).padStart(8, '0')}`;
