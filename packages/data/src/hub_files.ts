/** Text on the Hugging Face Hub: which files of a data set an address means, downloaded before they are read. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { shown, UserError } from '@stickbreaking/base';
import { cachedSnapshot, isOffline, listedNames, openHubRepository, parseHubAddress } from '@stickbreaking/base/node';
import picomatch from 'picomatch';
import { formatOf, knownEndings, type SourceFormat } from './kinds.js';

/**
 * Downloads what an `hf://datasets/…` address means into the cache, unless HF_HUB_OFFLINE is set.
 *
 * @throws UserError where it means no file, or one cannot be fetched
 */
export async function fetchHubFiles(given: string, format: SourceFormat | undefined): Promise<void> {
  checkDataSet(given);
  if (isOffline()) return;
  const repository = await openHubRepository(given);
  await repository.fetch(meantOf(given, repository.names, format));
}

/**
 * The files in the cache that an `hf://datasets/…` address means, sorted by name.
 *
 * @throws UserError where it means none, or the cache does not have all of them
 */
export function listHubFiles(given: string, format: SourceFormat | undefined): string[] {
  checkDataSet(given);
  const snapshot = cachedSnapshot(given);
  const names = listedNames(given, snapshot) ?? namesBelow(snapshot);
  const meant = meantOf(given, names, format);
  const missing = meant.find((name) => !existsSync(join(snapshot, name)));
  if (missing !== undefined) {
    const why = isOffline() ? ' and HF_HUB_OFFLINE is set; unset it to download' : ' yet';
    throw new UserError(`${shown(given)}: ${shown(missing)} is not in the cache at ${shown(snapshot)}${why}.`, {
      missing: true,
    });
  }
  return meant.map((name) => join(snapshot, name));
}

function checkDataSet(given: string): void {
  const { type, repository } = parseHubAddress(given);
  if (type === 'dataset') return;
  throw new UserError(`${shown(given)} is a model, not text; expected hf://datasets/${repository}.`);
}

/** What the address's path means: a file, a folder to any depth, or a glob, among a repository's files. */
function meantOf(given: string, names: readonly string[], format: SourceFormat | undefined): string[] {
  const { path } = parseHubAddress(given);
  if (names.includes(path)) return [path];
  const isKnown = (name: string) => format !== undefined || formatOf(name) !== undefined;
  const isHidden = (name: string) => name.split('/').some((part) => part.startsWith('.'));
  const below = names.filter((name) => path === '' || name.startsWith(`${path}/`));
  const matches = below.length > 0 ? undefined : picomatch(path);
  const meant = matches
    ? names.filter((name) => matches(name))
    : below.filter((name) => isKnown(name) && !isHidden(name));
  if (meant.length > 0) return meant.sort();
  const whole = given.slice(0, given.length - path.length).replace(/\/$/, '');
  throw new UserError(
    matches
      ? `${shown(whole)} has no file ${shown(path)}.`
      : `${shown(given)} holds no file ending in ${knownEndings}.`,
    { missing: true },
  );
}

/** With slashes between, as the Hub has them. */
function namesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) =>
      join(entry.parentPath, entry.name)
        .slice(folder.length + 1)
        .replaceAll('\\', '/'),
    );
}
