/** The package's commands as functions of their arguments, which give the exit code. */
import { main as chat } from './chat_cli.js';
import { main as serve } from './serve_cli.js';

export const commands = { 'sb-chat': chat, 'sb-serve': serve };
