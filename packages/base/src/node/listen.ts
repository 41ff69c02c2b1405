/** A command's server, and what it says where it cannot listen. */
import { once } from 'node:events';
import type { Server } from 'node:net';
import { UserError } from '../errors.js';

/**
 * Listens at an address.
 *
 * @param port 0 for a free one
 * @returns the port
 * @throws UserError that says what stands in the way
 */
export async function listen(server: Pick<Server, 'listen' | 'address'>, port: number, host: string): Promise<number> {
  server.listen(port, host);
  try {
    await once(server as Server, 'listening');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why: Record<string, string> = {
      EADDRINUSE: `port ${port} is taken; name another with --port, or 0 for a free one`,
      EACCES: `port ${port} is not open to this user; name one from 1024 with --port`,
      EADDRNOTAVAIL: 'this machine has no such address; name one of its own with --host',
      ENOTFOUND: 'there is no such host; name an address of this machine with --host',
    };
    throw new UserError(`cannot listen at ${host}: ${why[code ?? ''] ?? (error as Error).message}.`);
  }
  return (server.address() as { port: number }).port;
}
