/** What draws, as report.ts loads it with the first picture. */
export { drawCurves } from './curves.js';
export { drawMatrix } from './matrix.js';
