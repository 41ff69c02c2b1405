/** `${NAME}` and `~/` in the strings of a YAML file. */
import { type Document, parse, Scalar, visit } from 'yaml';
import { UserError } from '../errors.js';
import { ownValue } from '../own_value.js';
import { homeDirectory } from './cache_directory.js';

/** `${NAME}`, `${NAME:-what else}`; a dollar before it makes it plain text. */
const VARIABLE = /\$(\$\{)|\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}/g;

/**
 * Puts the environment's variables where a string says `${NAME}` or `${NAME:-default}`. What stands there without quotes
 * may become a number or a truth value, as in `seed: ${SEED}`.
 *
 * @param where says where the scalar is, for messages, as `run.yaml:3`
 * @throws UserError for a variable that is not set and has no default
 */
export function substituteEnvironment(
  document: Document,
  where: (scalar: Scalar) => string,
  environment = process.env,
): void {
  visit(document, {
    Scalar(key, scalar) {
      if (key === 'key' || typeof scalar.value !== 'string') return;
      const text = scalar.value.replaceAll(VARIABLE, (_all, escaped, name: string, otherwise: string | undefined) => {
        if (escaped) return '${';
        // An empty variable counts as unset where there is a default, as in a shell.
        const set = ownValue(environment, name);
        const value = otherwise === undefined ? set : set || otherwise;
        if (value === undefined) {
          throw new UserError(
            `${where(scalar)}: \${${name}} is not set in the environment; set it, or write \${${name}:-default}.`,
          );
        }
        return value;
      });
      if (text !== scalar.value) scalar.value = scalar.type === Scalar.PLAIN ? plainValue(text) : text;
    },
  });
}

/** The number or truth value that a text is in YAML; anything longer stays text. */
function plainValue(text: string): unknown {
  try {
    const value: unknown = parse(text);
    return typeof value === 'number' || typeof value === 'boolean' ? value : text;
  } catch {
    return text;
  }
}

/**
 * Puts the home directory where a string begins with `~/`.
 *
 * @param where as above
 * @throws UserError where the user has none
 */
export function substituteHome(document: Document, where: (scalar: Scalar) => string): void {
  visit(document, {
    Scalar(_key, scalar) {
      if (typeof scalar.value !== 'string' || !scalar.value.startsWith('~/')) return;
      const home = homeDirectory();
      if (home === undefined)
        throw new UserError(`${where(scalar)}: the user has no home directory; write the whole path.`);
      scalar.value = home + scalar.value.slice(1);
    },
  });
}
