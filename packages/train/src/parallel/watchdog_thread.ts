// What runs in the watchdog's thread of every process. Rank 0's thread listens; the others' hold a connection to it over
// which pass a hello, a heartbeat and a goodbye: words and numbers, never tensors. The function is handed to the thread
// as text, since a bundle is one file: it may use nothing but its arguments.
import type { Worker } from 'node:worker_threads';

/** What rank 0 holds every process to before the run begins. */
export interface Hello {
  rank: number;
  size: number;
  version: string;
  /** The run's identity: plain JSON that must be equal everywhere. */
  identity: unknown;
  /** The machine, and what stands for the process in messages, such as its GPU. */
  host: string;
  device: string;
  pid: number;
}

export interface ThreadData {
  hello: Hello;
  /** Only who knows it belongs to the run. */
  token: string;
  /** Where rank 0 listens; it listens on any port where there is none yet. */
  hosts: string[];
  port: number;
  /** What rank 0 tells the others when all are there. */
  payload: unknown;
  /** Int32 [step, exchange's number, exchange's kind, whether it waits in it], Float64 [since when, in ms]. */
  progress: SharedArrayBuffer;
  koffi: string;
  heartbeatSeconds: number;
  startSeconds: number;
  timeoutSeconds: number;
}

export type FromThread = { listening: number } | { ready: unknown } | { refused: string } | { closed: true };
export type ToThread = { fail: string; code: number } | { close: true } | { checkpoint: string };

/** What processes wait for each other in. */
export const EXCHANGES = ['sum', 'numbers', 'exchange'] as const;

/** So many heartbeats without a word and a process is given up: on this machine, and on others, where packets get lost. */
export const SILENCE = { here: 3, elsewhere: 9 } as const;

/** What passes over a connection, or comes from the main thread: one of these. */
interface Message {
  hello?: Hello;
  token?: string;
  beat?: number[];
  bye?: true;
  ready?: unknown;
  host?: string;
  end?: number;
  fail?: string;
  code?: number;
  checkpoint?: string;
  close?: true;
}

interface Member {
  hello: Hello;
  socket: import('node:net').Socket | undefined;
  heard: number;
  progress: number[];
}

/** Self-contained: see above. */
export function watch(
  require: NodeJS.Require,
  data: ThreadData,
  port: NonNullable<Worker>,
  kinds: readonly string[],
  silence: { here: number; elsewhere: number },
) {
  const net = require('node:net') as typeof import('node:net');
  const { writeSync } = require('node:fs') as typeof import('node:fs');
  const koffi = require(data.koffi) as typeof import('koffi');
  const exit = koffi.load(null as unknown as string).func('void _exit(int code)');
  const { hello, token } = data;
  const beat = data.heartbeatSeconds * 1000;
  const integers = new Int32Array(data.progress, 0, 4);
  const floats = new Float64Array(data.progress, 16, 1);
  const members = new Map<number, Member>();
  let [ended, ready, checkpoint] = [false, false, ''];

  const say = (line: string) => {
    try {
      writeSync(2, `${line}\n`);
    } catch {}
  };
  const nameOf = ({ rank, host, device }: Hello) => `rank ${rank} (${[host, device].filter(Boolean).join(', ')})`;
  const ranks = (list: number[]) => `${list.length === 1 ? 'rank' : 'ranks'} ${list.join(', ')}`;
  const send = (socket: import('node:net').Socket | undefined, message: object) =>
    socket?.write(`${JSON.stringify(message)}\n`);
  const lines = (socket: import('node:net').Socket, use: (message: Message) => void) => {
    let text = '';
    socket.setNoDelay(true);
    socket.setEncoding('utf8');
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      text += chunk;
      const parts = text.split('\n');
      text = parts.pop()!;
      for (const part of parts) {
        let message: Message;
        try {
          message = JSON.parse(part) as Message;
        } catch {
          socket.destroy(); // no member of this run
          return;
        }
        use(message);
      }
    });
  };
  /** Ends this process at once, whatever its main thread is stuck in. */
  const leave = (code: number) => {
    ended = true;
    exit(code);
  };
  const own = () => [...integers, floats[0]!];
  const patience = (host: string) => (host === hello.host ? silence.here : silence.elsewhere) * beat;
  let lastLook = Date.now();
  /** Whether this process itself has slept (a machine that was suspended): then it has no right to an opinion. */
  const hasSlept = () => {
    const now = Date.now();
    const slept = now - lastLook > 2 * beat + 500;
    lastLook = now;
    return slept;
  };

  /** The first key in which two pieces of plain JSON differ. */
  const difference = (
    a: unknown,
    b: unknown,
    path: string[] = [],
  ): { path: string; a: unknown; b: unknown } | undefined => {
    if (JSON.stringify(a) === JSON.stringify(b)) return undefined;
    if (typeof a !== 'object' || typeof b !== 'object' || !a || !b) return { path: path.join('.'), a, b };
    const [left, right] = [a as Record<string, unknown>, b as Record<string, unknown>];
    for (const key of new Set([...Object.keys(left), ...Object.keys(right)])) {
      const inner = difference(left[key], right[key], [...path, key]);
      if (inner) return inner;
    }
    return undefined;
  };

  /** Ends the run for every process; rank 0 says why. */
  const end = (reason: string, code: number) => {
    if (ended) return;
    ended = true;
    say(reason);
    for (const { socket } of members.values()) send(socket, { end: code });
    setTimeout(() => leave(code), 100);
  };
  const goOn = () => (checkpoint ? `; go on with --resume from ${checkpoint}` : '');
  const gone = (member: Member, how: string) => {
    // Its last beat may be older than a few quick steps; but all meet in every step, so it has come to the one before ours.
    const step = Math.max(member.progress[0]!, integers[0]! - 1);
    const when = ready ? (step > 0 ? ` in step ${step}` : ' before the first step') : ' before the run began';
    end(`${nameOf(member.hello)}, process ${member.hello.pid}, ${how}${when}; all others end${goOn()}`, 75);
  };

  const whyNot = (other: Hello): string | undefined => {
    const name = nameOf(other);
    if (other.size !== hello.size) return `${name} was started as one of ${other.size}, rank 0 as one of ${hello.size}`;
    if (other.version !== hello.version)
      return `${name} runs version ${other.version}, rank 0 version ${hello.version}`;
    const twin = members.get(other.rank);
    if (twin) return `rank ${other.rank} is there twice: on ${twin.hello.host} and on ${other.host}`;
    const differs = difference(hello.identity, other.identity);
    if (differs) {
      const { path, a, b } = differs;
      return `${name} runs another configuration (${path} ${JSON.stringify(b)}, rank 0 has ${JSON.stringify(a)})`;
    }
    for (const { hello: one } of members.values())
      if (other.device !== '' && one.host === other.host && one.device === other.device)
        return `${name} has the same device as rank ${one.rank}: start one process for each GPU`;
    return undefined;
  };

  const began = Date.now();
  const serve = () => {
    members.set(0, { hello, socket: undefined, heard: Date.now(), progress: own() });
    const server = net.createServer((socket) => {
      let member: Member | undefined;
      lines(socket, (message) => {
        if (message.hello) {
          if (message.token !== token) return socket.destroy();
          const reason = whyNot(message.hello);
          if (reason) {
            send(socket, { end: 1 });
            return end(reason, 1);
          }
          member = { hello: message.hello, socket, heard: Date.now(), progress: [0, 0, 0, 0, 0] };
          members.set(member.hello.rank, member);
          if (members.size < hello.size) return;
          ready = true;
          for (const one of members.values()) {
            one.heard = Date.now();
            send(one.socket, { ready: data.payload, host: hello.host });
          }
          port.postMessage({ ready: data.payload });
        } else if (member) {
          member.heard = Date.now();
          if (message.beat) member.progress = message.beat;
          if (message.bye) {
            member.socket = undefined;
            members.delete(member.hello.rank);
            socket.end();
          }
          if (message.fail) end(`${nameOf(member.hello)}: ${message.fail}`, message.code ?? 1);
        }
        return undefined;
      });
      socket.on('close', () => {
        if (member?.socket) gone(member, 'ended');
      });
    });
    server.on('error', (error: NodeJS.ErrnoException) =>
      port.postMessage({ refused: `${error.code}: ${error.message}` }),
    );
    server.listen(data.port, () =>
      port.postMessage({ listening: (server.address() as import('node:net').AddressInfo).port }),
    );
    let told = 0;
    setInterval(() => {
      if (ended) return;
      const now = Date.now();
      members.get(0)!.progress = own();
      if (!ready) {
        const missing = Array.from({ length: hello.size }, (_, rank) => rank).filter((rank) => !members.has(rank));
        const waited = Math.round((now - began) / 1000);
        if (waited >= data.startSeconds) end(`${ranks(missing)} did not come in ${data.startSeconds} s`, 1);
        else if (waited >= told + 30) {
          told = waited;
          say(`waiting for ${ranks(missing)} (${waited} s of ${data.startSeconds})`);
        }
        return;
      }
      const slept = hasSlept();
      for (const member of members.values()) {
        if (!member.socket) continue;
        send(member.socket, { beat: [] });
        if (slept) member.heard = now;
        if (now - member.heard > patience(member.hello.host))
          return gone(member, `has not answered for ${Math.round((now - member.heard) / 1000)} s`);
      }
      stuck(now);
      return undefined;
    }, beat).unref();
    return server;
  };

  /** Whether some wait in an exchange for longer than they should, and which processes have not come to it. */
  const stuck = (now: number) => {
    const all = [...members.values()];
    const waiting = all.filter(({ progress }) => progress[3] === 1);
    const longest = waiting.filter(({ progress }) => now - progress[4]! > data.timeoutSeconds * 1000);
    if (longest.length === 0) return;
    const number = Math.max(...longest.map(({ progress }) => progress[1]!));
    const kind = kinds[longest[0]!.progress[2]!];
    const late = all.filter(({ progress }) => progress[1]! < number).map((one) => one.hello.rank);
    const others = all.filter(({ progress }) => progress[1]! >= number).map((one) => one.hello.rank);
    const which = late.length > 0 ? `${ranks(late)} did not come to it` : 'all came to it';
    end(
      `exchange ${number} (${kind}) has not ended in ${data.timeoutSeconds} s: ${ranks(others)} wait, ${which}; all end${goOn()}`,
      75,
    );
  };

  let connection: import('node:net').Socket | undefined;
  const connect = (attempt: number) => {
    const socket = net.connect({ host: data.hosts[attempt % data.hosts.length]!, port: data.port });
    let [isConnected, isWelcome, heard, firstHost] = [false, false, Date.now(), ''];
    socket.on('connect', () => {
      isConnected = true;
      connection = socket;
      send(socket, { hello, token });
    });
    lines(socket, (message) => {
      heard = Date.now();
      if (message.ready !== undefined) {
        isWelcome = true;
        ready = true;
        firstHost = message.host ?? '';
        port.postMessage({ ready: message.ready });
      }
      if (message.end !== undefined && !ended) leave(message.end);
    });
    const timer = setInterval(() => {
      if (!isConnected || ended) return;
      send(socket, { beat: own() });
      if (hasSlept()) heard = Date.now();
      if (isWelcome && Date.now() - heard > patience(firstHost)) lost('does not answer');
    }, beat).unref();
    // Where rank 0 is gone, one of the others says so.
    const lost = (how: string) => {
      if (ended) return;
      const step = integers[0]!;
      if (hello.rank === 1) say(`rank 0 ${how} (step ${step}); all others end${goOn()}`);
      leave(75);
    };
    socket.on('close', () => {
      clearInterval(timer);
      if (ended) return;
      if (isConnected) return lost('ended');
      if (Date.now() - began > data.startSeconds * 1000)
        port.postMessage({ refused: `rank 0 does not answer at ${data.hosts.join(', ')} port ${data.port}` });
      else setTimeout(() => connect(attempt + 1), 100);
      return undefined;
    });
  };

  const server = hello.rank === 0 ? serve() : undefined;
  if (server && hello.size === 1) {
    ready = true;
    port.postMessage({ ready: data.payload });
  }
  if (!server) connect(0);
  port.on('message', (message: Message) => {
    if (message.checkpoint) checkpoint = message.checkpoint;
    if (message.fail) {
      // Rank 0 says it, once.
      if (server) end(`${nameOf(hello)}: ${message.fail}`, message.code ?? 1);
      else {
        send(connection, message);
        setTimeout(() => leave(message.code ?? 1), 2000);
      }
    }
    if (message.close) {
      ended = true;
      if (!server) {
        send(connection, { bye: true });
        connection?.end(() => port.postMessage({ closed: true }));
      } else {
        // The others' goodbyes are still to come; who does not say it is not waited for.
        const deadline = Date.now() + 3000;
        const wait = () => {
          if (members.size > 1 && Date.now() < deadline) setTimeout(wait, 10);
          else port.postMessage({ closed: true });
        };
        wait();
      }
    }
  });
}
