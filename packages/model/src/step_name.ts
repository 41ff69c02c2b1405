/** Names of the directories of a run's checkpoints: step-00000123. */

/** Matches such a name. */
export const STEP = /^step-\d+$/;

/** The step of a checkpoint, by the name of its directory. */
export const stepIn = (name: string) => Number(name.slice('step-'.length));

/** The name of a checkpoint's directory. */
export const nameOfStep = (step: number) => `step-${String(step).padStart(8, '0')}`;
