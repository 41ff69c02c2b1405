/** The model's side of the page: it answers one request after the other, away from what the user types into. */
import { Engine } from './engine.js';
import type { Answer, Request } from './messages.js';

let engine: Engine | undefined;
/** The request that writes; another number stops it. */
let writing = 0;

const tell = (answer: Answer, transfer: Transferable[] = []) =>
  (self as unknown as { postMessage(message: Answer, transfer: Transferable[]): void }).postMessage(answer, transfer);

async function answer(request: Request): Promise<void> {
  const { id } = request;
  switch (request.kind) {
    case 'open': {
      const opened = await Engine.open(request.files, request.backend);
      engine?.dispose();
      engine = opened;
      tell({ id, kind: 'opened', facts: engine.facts });
      break;
    }
    case 'read': {
      const reading = await engine!.read(request.text);
      const large = [...reading.weights, ...reading.remainders].map((one) => one.buffer as ArrayBuffer);
      tell({ id, kind: 'read', reading }, large);
      break;
    }
    case 'write': {
      const { text, maxNewTokens, temperature, seed } = request;
      for await (const piece of engine!.write(text, { maxNewTokens, temperature, seed })) {
        if (writing !== id) break;
        tell({ id, kind: 'wrote', piece });
        await new Promise((resolve) => setTimeout(resolve)); // so that a stop is heard
      }
      tell({ id, kind: 'ended' });
      break;
    }
  }
}

let queue = Promise.resolve();
addEventListener('message', ({ data }: MessageEvent<Request>) => {
  if (data.kind === 'stop') {
    writing = 0;
    return;
  }
  if (data.kind === 'write') writing = data.id;
  queue = queue
    .then(() => answer(data))
    .catch((error: unknown) => tell({ id: data.id, kind: 'failed', message: (error as Error).message }));
});
