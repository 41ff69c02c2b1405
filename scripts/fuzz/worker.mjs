// A process that runs cases one after the other: its parent sends a case and waits for what came of it.
import { runCase, setUp } from './cases.mjs';

// A terminal's Ctrl-C reaches all of its processes; the parent lets the case end.
process.on('SIGINT', () => {});
process.on('message', async ({ setup, one }) => {
  if (setup) {
    await setUp(setup);
    process.send({ ready: true });
  } else process.send({ result: await runCase(one) });
});
