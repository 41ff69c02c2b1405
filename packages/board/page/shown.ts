import type { Run } from './source.js';

/** A run that is shown, with its look. */
export interface Shown extends Run {
  name: string;
  /** Its name without what all have in common. */
  short: string;
  colour: string;
  dash: number[];
}
