/** The package's commands as functions of their arguments, which give the exit code. */
import { main } from './cli.js';

export const commands = { 'sb-web': main };
