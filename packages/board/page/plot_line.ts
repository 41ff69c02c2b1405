import type { Line } from '../src/series.js';

/** A line as it is drawn. */
export interface PlotLine {
  name: string;
  colour: string;
  dash: number[];
  smoothed: Line;
  /** What was smoothed, drawn faintly. */
  raw: Line | undefined;
}
