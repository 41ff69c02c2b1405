export {
  actionOf,
  explainSystemError,
  OptionError,
  OutOfMemoryError,
  reasonIn,
  systemErrorIn,
  UserError,
  type UserErrorOptions,
} from './errors.js';
export { EXIT } from './exit_codes.js';
export { alignColumns, formatBytes, formatCount, formatDuration } from './format.js';
export { median } from './median.js';
export { ownValue } from './own_value.js';
export { curveColours, logTicks, placeLabels, powerOfTwoTicks } from './pictures.js';
export { chooseSeed, generator, type Random, SEED_VARIABLE, seededRandom, sfc32 } from './random.js';
export { oneLine, shown } from './shown.js';
export { VERSION } from './version.js';
