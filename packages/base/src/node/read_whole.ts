/** Opening files without waiting, and reading one at once. */
import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats } from 'node:fs';
import { explainSystemError, UserError } from '../errors.js';

const { O_APPEND, O_CREAT, O_NONBLOCK = 0, O_RDONLY, O_WRONLY } = constants;
const flags = { reading: O_RDONLY, appending: O_WRONLY | O_APPEND | O_CREAT } as const;

/**
 * Opens a file. What is none is refused: a device such as /dev/zero never ends, and a pipe that has nobody at its other end
 * waits for ever.
 *
 * @param purpose `appending` makes the file where it is not there
 * @param shown the path as messages show it
 * @returns its descriptor
 * @throws UserError that names the path
 */
export function openFile(path: string, purpose: keyof typeof flags, shown = path): number {
  const action = `cannot ${purpose === 'reading' ? 'read' : 'write'} ${shown}`;
  let file: number | undefined;
  try {
    file = openSync(path, flags[purpose] | O_NONBLOCK); // without waiting at a pipe's end
    const stats = fstatSync(file);
    if (stats.isFile()) return file;
    throw new UserError(`${action}: it is ${kindOf(stats)}, and a file was expected.`);
  } catch (error) {
    if (file !== undefined) closeSync(file);
    throw explainSystemError(error, action);
  }
}

/**
 * The content of a file that is small enough to be read at once.
 *
 * @param shown the path as messages show it
 * @throws UserError that names the path
 */
export function readWhole(path: string, shown = path): Buffer {
  const file = openFile(path, 'reading', shown);
  try {
    return readFileSync(file);
  } catch (error) {
    throw explainSystemError(error, `cannot read ${shown}`);
  } finally {
    closeSync(file);
  }
}

function kindOf(stats: Stats): string {
  if (stats.isDirectory()) return 'a directory';
  if (stats.isFIFO()) return 'a pipe';
  return stats.isSocket() ? 'a socket' : 'a device';
}
