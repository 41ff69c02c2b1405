/** Files of samples as lines of JSON. */
import { shown, UserError } from '@stickbreaking/base';
import { readWhole } from '@stickbreaking/base/node';

/**
 * The lines of a file that are not blank.
 *
 * @throws UserError where the file cannot be read, or a line is no JSON
 */
export function readJsonLines(path: string): { json: unknown; where: string }[] {
  const lines = readWhole(path, shown(path)).toString().split('\n');
  return lines.flatMap((line, i) => {
    if (line.trim() === '') return [];
    const where = `${shown(path)}, line ${i + 1}`;
    try {
      return [{ json: JSON.parse(line) as unknown, where }];
    } catch {
      throw new UserError(`${where}: this is no JSON.`);
    }
  });
}
