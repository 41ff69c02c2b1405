/** sb-board: a page on this machine that shows runs, also while they train. */
import { once } from 'node:events';
import { createAdaptorServer } from '@hono/node-server';
import { OptionError } from '@stickbreaking/base';
import { listen, runCommand, stopOnSignals } from '@stickbreaking/base/node';
import { createBoard } from './board.js';
import type { Looker } from './looking.js';
import { Runs } from './runs.js';

interface Arguments {
  _: (string | number)[];
  port: number;
  backend: string | undefined;
}

/** What the command is given by whoever starts it. */
export interface Wiring {
  /** What opens checkpoints; undefined where nothing is installed that does. */
  looker?(): Promise<((checkpoint: string, backend?: string) => Promise<Looker>) | undefined>;
  /** What reads the page that runs checkpoints in the browser; undefined where it is not installed. */
  webPage?(): Promise<(() => string) | undefined>;
}

export function main(argv: string[], wiring: Wiring = {}): Promise<number> {
  return runCommand<Arguments>(
    argv,
    (parser) =>
      parser
        .scriptName('sb-board')
        .strict(false)
        .strictOptions() // what is no option is a run
        .usage(
          '$0 [runs …]\n\nShows runs in the browser, side by side, also while they train. A run is its directory, or one that ' +
            'holds several; without any, it is the working directory.',
        )
        .option('port', { type: 'number', default: 6007, describe: '0 takes a free one' })
        .option('backend', {
          type: 'string',
          describe: 'on what checkpoints are looked into: cuda, cpu, …; default: native, as GPUs may be training',
        })
        .example('$0', 'all runs in and below the working directory')
        .example('$0 runs/a runs/b', 'these two')
        .epilogue(
          'It listens at 127.0.0.1 alone. To see runs on another machine: ssh -L 6007:127.0.0.1:6007 that-machine',
        ) as never,
    (args) => serve(args, wiring),
  );
}

async function serve({ _: named, port: wanted, backend }: Arguments, wiring: Wiring): Promise<number> {
  const paths = named.length > 0 ? named.map(String) : ['.'];
  if (!(Number.isInteger(wanted) && wanted >= 0 && wanted < 65536))
    throw new OptionError('--port', wanted, '0 to 65535');
  const runs = new Runs(paths);
  const open = await wiring.looker?.();
  const openLooker = open && ((checkpoint: string) => open(checkpoint, backend));
  const readWebPage = await wiring.webPage?.();
  const server = createAdaptorServer({ fetch: createBoard(runs, { openLooker, readWebPage }).fetch });
  const stop = stopOnSignals();
  try {
    const port = await listen(server, wanted, '127.0.0.1');
    const count = runs.summaries().length;
    process.stdout.write(
      `${count} ${count === 1 ? 'run' : 'runs'} at http://127.0.0.1:${port}/ (${paths.join(', ')}); Ctrl-C ends it\n`,
    );
    if (!stop.signal.aborted) await once(stop.signal, 'abort');
    return stop.exitCode;
  } finally {
    server.close();
    if ('closeAllConnections' in server) server.closeAllConnections();
    stop.release();
  }
}
