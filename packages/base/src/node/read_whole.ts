/** Reading a file at once. */
import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats } from 'node:fs';
import { explainSystemError, UserError } from '../errors.js';

/**
 * The content of a file that is small enough to be read at once. What is no file is refused: a device such as /dev/zero
 * never ends, and a pipe that nobody writes to waits for ever.
 *
 * @param shown the path as messages show it
 * @throws UserError that names the path
 */
export function readWhole(path: string, shown = path): Buffer {
  const action = `cannot read ${shown}`;
  let file: number | undefined;
  try {
    file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)); // without waiting at a pipe's end
    const stats = fstatSync(file);
    if (!stats.isFile()) throw new UserError(`${action}: it is ${kindOf(stats)}, and a file was expected.`);
    return readFileSync(file);
  } catch (error) {
    throw explainSystemError(error, action);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return 'a directory';
  if (stats.isFIFO()) return 'a pipe';
  return stats.isSocket() ? 'a socket' : 'a device';
}
