import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { explainSystemError, shown } from '@stickbreaking/base';

/** SHA-256 of a file's bytes, in hexadecimal. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Uint8Array);
  } catch (error) {
    throw explainSystemError(error, `cannot read ${shown(path)}`);
  }
  return hash.digest('hex');
}
