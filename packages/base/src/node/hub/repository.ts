/** A repository on the Hugging Face Hub: its files at one commit, and their download into the cache. */
import { dirname, join } from 'node:path';
import type { ListFileEntry } from '@huggingface/hub';
import { UserError } from '../../errors.js';
import { shown } from '../../shown.js';
import { makeDirectory, replaceFile } from '../files.js';
import { withLock } from '../lock.js';
import { type HubAddress, parseHubAddress } from './address.js';
import { hubCache, isCommit, listingFile, repositoryFolder, snapshotFolder } from './cache.js';
import { downloadFile, type HubFile } from './download.js';
import { explainHubError, type Hub, hubFromEnvironment } from './requests.js';

/** The files of a repository, of which any may be fetched. */
export interface HubRepository {
  address: HubAddress;
  /** Names of all its files, whatever path the address has. */
  names: string[];
  /**
   * Downloads files into the cache, but for those that are there, and goes on with what broke off.
   *
   * @returns the folder that holds them, at their names
   * @throws UserError with the file and the reason
   */
  fetch(names: readonly string[]): Promise<string>;
}

/**
 * Asks the Hub for the files of an address. HF_ENDPOINT names another Hub, HF_TOKEN or HUGGING_FACE_HUB_TOKEN the user.
 *
 * @throws UserError where there is no such repository or revision, it is not open to the user, or nobody answers
 */
export async function openHubRepository(given: string): Promise<HubRepository> {
  const address = parseHubAddress(given);
  const hub = hubFromEnvironment();
  try {
    const commit = await commitOf(address, hub);
    const files = new Map<string, HubFile>();
    for (const one of await list(address, commit, hub)) files.set(one.path, one);
    return {
      address,
      names: [...files.keys()],
      fetch: (names) =>
        fetchAll(
          { address, commit, hub },
          [...files.keys()],
          names.map((name) => files.get(name)!),
        ),
    };
  } catch (error) {
    throw explainHubError(error, address, hub);
  }
}

async function commitOf(address: HubAddress, hub: Hub): Promise<string> {
  const { modelInfo, datasetInfo } = await import('@huggingface/hub');
  const asked = { ...hub, name: address.repository, revision: address.revision, additionalFields: ['sha' as const] };
  const { sha } = address.type === 'model' ? await modelInfo(asked) : await datasetInfo(asked);
  if (typeof sha === 'string' && isCommit(sha)) return sha;
  throw new UserError(
    `${shown(address.given)}: ${hub.hubUrl} answered without a commit, so it is no Hugging Face Hub.`,
  );
}

async function list(address: HubAddress, revision: string, hub: Hub): Promise<HubFile[]> {
  const { listFiles } = await import('@huggingface/hub');
  const repo = { type: address.type, name: address.repository };
  const files: HubFile[] = [];
  for await (const entry of listFiles({ ...hub, repo, revision, recursive: true })) {
    if (entry.type === 'file') files.push(checked(entry, address));
  }
  return files;
}

/** A name from elsewhere that becomes a path here. */
function checked({ path, size, oid, lfs }: ListFileEntry, address: HubAddress): HubFile {
  const isSafe = !/[\\\0]/.test(path) && path.split('/').every((part) => !['', '.', '..'].includes(part));
  const digest = lfs?.oid ?? oid;
  const isDigest = /^[0-9a-f]{40}$|^[0-9a-f]{64}$/.test(digest ?? '');
  if (!isSafe || !isDigest)
    throw new UserError(`${shown(address.given)}: the Hub lists a file it cannot have, ${shown(path)}.`);
  return { path, size: lfs?.size ?? size, digest: digest! };
}

async function fetchAll(
  { address, commit, hub }: { address: HubAddress; commit: string; hub: Hub },
  all: readonly string[],
  files: readonly HubFile[],
): Promise<string> {
  const folder = repositoryFolder(address);
  const snapshot = snapshotFolder(address, commit);
  await withLock(join(hubCache(), '.locks', folder), {}, async () => {
    for (const file of files) {
      try {
        await downloadFile(address, commit, file, hub);
      } catch (error) {
        throw explainHubError(error, address, hub, file.path);
      }
    }
    const listing = listingFile(address, commit);
    makeDirectory(dirname(listing));
    replaceFile(listing, JSON.stringify(all));
    // What it points at is whole by now.
    if (!isCommit(address.revision)) {
      const ref = join(hubCache(), folder, 'refs', address.revision);
      makeDirectory(dirname(ref));
      replaceFile(ref, commit);
    }
  });
  return snapshot;
}
