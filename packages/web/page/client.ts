/** The worker as the page sees it. */
import type { Backend, Facts, Reading } from './engine.js';
import type { Answer, Request } from './messages.js';

/** The worker's program, which the build puts in. */
declare const WORKER: string;

type Asked = Request extends infer R ? (R extends { id: number } ? Omit<R, 'id'> : never) : never;

export class Client {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, (answer: Answer) => void>();
  private last = 0;

  constructor() {
    const address = URL.createObjectURL(new Blob([WORKER], { type: 'text/javascript' }));
    this.worker = new Worker(address);
    this.worker.onmessage = ({ data }: MessageEvent<Answer>) => this.waiting.get(data.id)?.(data);
  }

  /** @throws Error with a line for the user */
  async open(files: readonly File[], backend?: Backend): Promise<Facts> {
    const answer = await this.ask({ kind: 'open', files: [...files], backend });
    if (answer.kind !== 'opened') throw new Error('unexpected answer');
    return answer.facts;
  }

  async read(text: string): Promise<Reading> {
    const answer = await this.ask({ kind: 'read', text });
    if (answer.kind !== 'read') throw new Error('unexpected answer');
    return answer.reading;
  }

  /** Tells each piece of the text that follows; resolves at its end, or after `stop`. */
  async write(text: string, seed: number, onPiece: (piece: string) => void): Promise<void> {
    await this.ask({ kind: 'write', text, seed, maxNewTokens: 60, temperature: 0.8 }, (answer) => {
      if (answer.kind !== 'wrote') return true;
      onPiece(answer.piece);
      return false;
    });
  }

  stop(): void {
    this.worker.postMessage({ id: 0, kind: 'stop' } satisfies Request);
  }

  private ask(request: Asked, isLast: (answer: Answer) => boolean = () => true): Promise<Answer> {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, (answer) => {
        if (answer.kind !== 'failed' && !isLast(answer)) return;
        this.waiting.delete(id);
        if (answer.kind === 'failed') reject(new Error(answer.message));
        else resolve(answer);
      });
      this.worker.postMessage({ id, ...request } as Request);
    });
  }
}
