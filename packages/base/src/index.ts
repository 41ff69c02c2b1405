export { explainSystemError, systemErrorIn, UserError } from './errors.js';
