/** The package's commands as functions of their arguments, which give the exit code. */
import { main as board } from './board_cli.js';
import { main as report } from './report_cli.js';

export const commands = { 'sb-board': board, 'sb-report': report };
