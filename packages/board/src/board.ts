/**
 * What the page asks for: the runs, what is new of one, and to be told of changes (server-sent events). It changes nothing
 * on disk. Only those are answered who name this machine by its own address: a page from elsewhere, whose host name was
 * made to point here, does not.
 */
import { join } from 'node:path';
import { faultOf } from '@stickbreaking/base/node';
import { Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import { z } from 'zod';
import { type Looker, Looking } from './looking.js';
import { readPage } from './page_file.js';
import type { RunReader } from './run_reader.js';
import type { Runs } from './runs.js';

/** A line that says nothing, so that a connection that is gone is noticed. */
const BEAT_MS = 15_000;

const policy =
  "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'";
/** The page's model runs in a worker, which it makes of its own script; it asks nobody for anything. */
const webPolicy =
  "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; worker-src blob:; style-src 'unsafe-inline'; img-src data: blob:; connect-src blob: data:";
const own = /^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/i;

/** Options of `createBoard`. */
export interface BoardOptions {
  /** Opens a checkpoint; left out where nothing is installed that does. */
  openLooker?: ((checkpoint: string) => Promise<Looker>) | undefined;
  /** The page that runs a checkpoint in the browser, as HTML; left out where it is not installed. */
  readWebPage?: (() => string) | undefined;
}

/** The application: `fetch` answers a Request, whatever serves it. */
export function createBoard(runs: Runs, { openLooker, readWebPage }: BoardOptions = {}): Hono {
  const page = readPage();
  const app = new Hono();
  app.use(async (c, next) => {
    const host = c.req.header('host') ?? new URL(c.req.url).host;
    if (!own.test(host)) return c.text(`The board is at localhost, not at ${host}.`, 403);
    c.header('Content-Security-Policy', policy);
    c.header('X-Content-Type-Options', 'nosniff');
    c.header('Cache-Control', 'no-store');
    return await next();
  });
  app.get('/', (c) => c.html(page));
  app.get('/web', (c) => {
    if (!readWebPage)
      return c.text('To run checkpoints in the browser, install @stickbreaking/web beside the board.', 501);
    c.header('Content-Security-Policy', webPolicy);
    return c.html(readWebPage());
  });
  app.get('/api/runs', (c) => {
    runs.refresh();
    return c.json(runs.summaries());
  });
  const run = (name: string | undefined, use: (reader: RunReader) => Response) => {
    const reader = name === undefined ? undefined : runs.get(name);
    return reader ? use(reader) : Response.json({ error: `There is no run '${name}'.` }, { status: 404 });
  };
  app.get('/api/metrics', (c) =>
    run(c.req.query('run'), (reader) => {
      const [from, generation] = [Number(c.req.query('from') ?? 0), Number(c.req.query('generation') ?? 0)];
      return c.json(reader.metrics(from, generation));
    }),
  );
  app.get('/api/details', (c) => run(c.req.query('run'), (reader) => c.json(reader.details())));
  const looking = openLooker && new Looking(openLooker);
  app.post('/api/look', async (c) => {
    const asked = LookSchema.safeParse(await c.req.json().catch(() => undefined));
    if (!asked.success) return c.json({ error: 'This is no question about a checkpoint.' }, 400);
    const { run: name, checkpoint, text, layer } = asked.data;
    const known = runs
      .get(name)
      ?.details()
      .checkpoints.some((one) => one.name === checkpoint);
    if (!known) return c.json({ error: `There is no checkpoint '${checkpoint}' of '${name}'.` }, 404);
    if (!looking)
      return c.json({ error: 'To look into checkpoints, install @stickbreaking/eval beside the board.' }, 501);
    try {
      return c.json(await looking.look(join(name, 'checkpoints', checkpoint), text, layer));
    } catch (error) {
      return c.json({ error: faultOf(error).message }, 422);
    }
  });
  app.get('/api/events', (c) =>
    streamSSE(c, async (stream) => {
      let told = () => {};
      const unwatch = runs.watch(() => told());
      stream.onAbort(() => {
        unwatch();
        told();
      });
      runs.refresh();
      while (!stream.aborted) {
        await stream.writeSSE({ event: 'runs', data: JSON.stringify(runs.summaries()) });
        const changed = await nextChange((wake) => {
          told = wake;
        });
        if (!changed && !stream.aborted) await stream.write(': still here\n\n');
      }
    }),
  );
  app.notFound((c) => c.text(`There is nothing at ${c.req.path}.`, 404));
  return app;
}

const LookSchema = z.strictObject({
  run: z.string(),
  checkpoint: z.string(),
  text: z.string().min(1).max(10_000),
  layer: z.int().nonnegative(),
});

/** Whether something changed before the next beat. */
function nextChange(register: (wake: () => void) => void): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, BEAT_MS, false);
    register(() => {
      clearTimeout(timer);
      resolve(true);
    });
  });
}
