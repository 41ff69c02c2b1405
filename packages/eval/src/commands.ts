/** The package's commands as functions of their arguments, which give the exit code. */
import { main } from './cli.js';
import { main as generate } from './generate_cli.js';

export const commands = { 'sb-eval': main, 'sb-generate': generate };
