export { explainSystemError, systemErrorIn, UserError } from './errors.js';
export { alignColumns, formatBytes, formatCount, formatDuration } from './format.js';
export { chooseSeed, generator, type Random, SEED_VARIABLE, seededRandom, sfc32 } from './random.js';
export { shown } from './shown.js';
