/** The package's own command as a function of its arguments, which gives the exit code. */
import { main } from './cli.js';

export const commands = { stickbreaking: main };
