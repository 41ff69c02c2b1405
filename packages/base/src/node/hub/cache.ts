/**
 * What was downloaded from the Hugging Face Hub, where and as `huggingface_hub` keeps it: `refs/REVISION` holds a commit,
 * `snapshots/COMMIT/` its files, as links into `blobs/`. So programs in Python and these share one copy.
 */
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { UserError } from '../../errors.js';
import { shown } from '../../shown.js';
import { homeDirectory } from '../cache_directory.js';
import { readWhole } from '../read_whole.js';
import { type HubAddress, parseHubAddress } from './address.js';

const COMMIT = /^[0-9a-f]{40}$/;
export const isCommit = (text: string) => COMMIT.test(text);

/** HF_HUB_CACHE, or hub/ in HF_HOME, or in huggingface/ of the user's cache folder. */
export function hubCache(): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME } = process.env;
  const caches = XDG_CACHE_HOME || join(homeDirectory() ?? tmpdir(), '.cache');
  return HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE || join(HF_HOME || join(caches, 'huggingface'), 'hub');
}

/** HF_HUB_OFFLINE, read as `huggingface_hub` reads it. */
export const isOffline = () => /^(1|on|yes|true)$/i.test(process.env.HF_HUB_OFFLINE ?? '');

export const repositoryFolder = ({ type, repository }: HubAddress) => `${type}s--${repository.replace('/', '--')}`;

/** The folder of a commit's files; it need not be there. */
export const snapshotFolder = (address: HubAddress, commit: string) =>
  join(hubCache(), repositoryFolder(address), 'snapshots', commit);

/**
 * The folder of an address's files, without asking the Hub.
 *
 * @throws UserError where nothing of that revision was downloaded
 */
export function cachedSnapshot(given: string): string {
  const address = parseHubAddress(given);
  const ref = join(hubCache(), repositoryFolder(address), 'refs', address.revision);
  const commit = isCommit(address.revision) || !existsSync(ref) ? address.revision : readWhole(ref).toString().trim();
  const folder = isCommit(commit) ? snapshotFolder(address, commit) : undefined;
  if (folder && existsSync(folder)) return folder;
  const where = `${shown(given)} is not in the cache at ${shown(hubCache())}`;
  const what = isOffline() ? 'and HF_HUB_OFFLINE is set; unset it to download' : 'yet';
  throw new UserError(`${where} ${what}.`, { missing: true });
}

/** Beside the snapshots: which files a commit has, those that were not fetched among them. */
export const listingFile = (address: HubAddress, commit: string) =>
  join(hubCache(), repositoryFolder(address), 'listings', `${commit}.json`);

/**
 * The names of all files of a downloaded commit, relative to its folder; undefined where another program downloaded it.
 *
 * @param snapshot the folder that `cachedSnapshot` gives
 */
export function listedNames(given: string, snapshot: string): string[] | undefined {
  const file = listingFile(parseHubAddress(given), basename(snapshot));
  if (!existsSync(file)) return undefined;
  const names: unknown = JSON.parse(readWhole(file).toString());
  return Array.isArray(names) && names.every((name) => typeof name === 'string') ? names : undefined;
}
