/** YAML files that come with a package, found by name: `350m`, where the user has no file that is called so. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { explainSystemError, UserError } from '../errors.js';
import { shown } from '../shown.js';

/** The YAML files in one folder of a package. */
export class ShippedFiles {
  /**
   * @param url `import.meta.url` of a module of the package
   * @param folder such as `configs`: in the package, in the bundle that it came in, or at the root of the clone
   */
  constructor(
    private readonly url: string,
    private readonly folder: string,
  ) {}

  /** What the files are called, without `.yaml`; none where they did not come along. */
  names(): string[] {
    const directory = this.directory();
    const files = directory === undefined ? [] : readdirSync(directory);
    const ours = files.filter((name) => name.endsWith('.yaml'));
    return ours.map((name) => basename(name, '.yaml')).sort();
  }

  /**
   * The path of the file that `given` means: itself where there is such a file, else the one of that name; a directory of
   * that name, such as a run's, is none.
   *
   * @throws UserError where there is neither; it lists the names
   */
  find(given: string): string {
    try {
      const ours = statSync(given).isDirectory() && this.names().includes(given);
      return ours ? this.pathOf(given) : given;
    } catch (error) {
      const explained = explainSystemError(error, `cannot read ${shown(given)}`);
      if (!(explained instanceof UserError && explained.missing)) return given; // whoever reads it says why it cannot
      const names = this.names();
      if (names.includes(given)) return this.pathOf(given);
      if (names.length === 0) throw explained;
      const meant = basename(given, '.yaml');
      const hint = names.includes(meant)
        ? `'${meant}' alone names the one that comes with this program`
        : `These come with this program and go by their names: ${names.join(', ')}`;
      throw new UserError(`${explained.message} ${hint}.`, { cause: error, missing: true });
    }
  }

  private pathOf(name: string): string {
    return join(this.directory()!, `${name}.yaml`);
  }

  private directory(): string | undefined {
    for (let at = dirname(fileURLToPath(this.url)); ; at = dirname(at)) {
      if (existsSync(join(at, this.folder))) return join(at, this.folder);
      if (at === dirname(at)) return undefined;
    }
  }
}
