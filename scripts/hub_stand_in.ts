/** A stand-in of the Hugging Face Hub's HTTP interface: what of it a client asks for to list and download files. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A repository of the stand-in, at one commit that `main` and other revisions point at. */
export interface StandInRepository {
  files: Record<string, string | Uint8Array>;
  commit?: string;
  /** default: main */
  revisions?: string[];
  /** a token that one needs */
  token?: string;
  /** Files of more bytes are listed with their SHA-256, as large ones are. */
  largeFrom?: number;
}

export interface StandIn {
  url: string;
  /** METHOD, path and range of every request */
  requests: string[];
  /** Bytes after which the next downloads of more than one byte break off, one entry for each. */
  breaks: number[];
  /** What every file holds instead, from now on. */
  damage?: ((bytes: Buffer) => Buffer) | undefined;
  close(): Promise<void>;
}

export const COMMIT = 'c0ffee'.padEnd(40, '0');

/** @param repositories by `models/org/name` or `datasets/org/name` */
export async function startStandIn(repositories: Record<string, StandInRepository>): Promise<StandIn> {
  const standIn: Omit<StandIn, 'close' | 'url'> = { requests: [], breaks: [] };
  const server = createServer((request, response) => answer(request, response, repositories, standIn));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  };
  return Object.assign(standIn, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close });
}

const digest = (name: string, ...parts: (string | Uint8Array)[]) => {
  const hash = createHash(name);
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
};

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  repositories: Record<string, StandInRepository>,
  standIn: Pick<StandIn, 'requests' | 'breaks' | 'damage'>,
): void {
  const path = decodeURIComponent(new URL(request.url!, 'http://hub').pathname);
  const { range, authorization } = request.headers;
  standIn.requests.push([request.method, path, range].filter(Boolean).join(' '));
  const fail = (status: number, error: string): void => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ error }));
  };
  const api = /^\/api\/(models|datasets)\/([^/]+\/[^/]+)\/(revision|tree)\/(.+)$/.exec(path);
  const file = /^\/(datasets\/)?([^/]+\/[^/]+)\/resolve\/(.+)$/.exec(path);
  const key = api ? `${api[1]}/${api[2]}` : `${file?.[1] ?? 'models/'}${file?.[2]}`;
  const repository = repositories[key];
  // As the Hub does, which does not tell whether there is what one may not see.
  if (!repository) {
    fail(401, 'Invalid username or password.');
    return;
  }
  if (repository.token && authorization !== `Bearer ${repository.token}`) {
    fail(403, 'Access is restricted');
    return;
  }
  const { commit = COMMIT, revisions = ['main'], files, largeFrom = 1000 } = repository;
  const rest = api?.[4] ?? file![3]!;
  const revision = [...revisions, commit].find((one) => rest === one || rest.startsWith(`${one}/`));
  if (!revision) {
    fail(404, `Invalid rev id: ${rest}`);
    return;
  }
  if (api?.[3] === 'revision') {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ _id: '1', id: api[2], sha: commit, lastModified: '2026-01-01T00:00:00.000Z' }));
    return;
  }
  if (api) {
    const entries = Object.entries(files).map(([name, content]) => {
      const bytes = Buffer.from(content as string);
      const oid = digest('sha1', `blob ${bytes.length}\0`, bytes);
      const lfs = { oid: digest('sha256', bytes), size: bytes.length, pointerSize: 130 };
      return { type: 'file', path: name, size: bytes.length, oid, ...(bytes.length > largeFrom ? { lfs } : {}) };
    });
    // Two pages, the second of which a header names.
    const next = new URL(request.url!, `http://${request.headers.host}`);
    const page = Number(next.searchParams.get('cursor') ?? 0);
    const half = Math.ceil(entries.length / 2);
    next.searchParams.set('cursor', '1');
    if (page === 0) response.setHeader('link', `<${next.href}>; rel="next"`);
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(page === 0 ? entries.slice(0, half) : entries.slice(half)));
    return;
  }
  const content = files[rest.slice(revision.length + 1)];
  if (content === undefined) {
    response.setHeader('x-error-code', 'EntryNotFound');
    fail(404, 'Entry not found');
    return;
  }
  send(response, standIn, Buffer.from(content as string), range);
}

function send(
  response: ServerResponse,
  { breaks, damage }: Pick<StandIn, 'breaks' | 'damage'>,
  content: Buffer,
  range: string | undefined,
): void {
  const bytes = damage ? damage(content) : content;
  const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? [];
  const start = Number(from ?? 0);
  const end = Math.min(Number(to ?? bytes.length - 1) + 1, bytes.length);
  response.setHeader('etag', `"${digest('sha1', bytes)}"`);
  response.setHeader('content-length', end - start);
  if (range) response.setHeader('content-range', `bytes ${start}-${end - 1}/${bytes.length}`);
  response.writeHead(range ? 206 : 200);
  const breakAt = to === '0' ? undefined : breaks.shift();
  if (breakAt === undefined) {
    response.end(bytes.subarray(start, end));
    return;
  }
  response.flushHeaders(); // which an empty piece would not take along
  response.write(bytes.subarray(start, Math.min(start + breakAt, end)), () => {
    setTimeout(() => response.destroy(), 50); // so that what was written arrives
  });
}
