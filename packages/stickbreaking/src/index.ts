export { type QuickstartOptions, quickstart } from './quickstart/quickstart.js';
