/** Addresses of repositories on the Hugging Face Hub, as `huggingface_hub` writes them: `hf://…`. */
import { UserError } from '../../errors.js';
import { shown } from '../../shown.js';

/** What an `hf://` address names. */
export interface HubAddress {
  /** as the user wrote it */
  given: string;
  type: 'model' | 'dataset';
  /** `org/name` */
  repository: string;
  /** branch, tag or commit; `main` where none is named */
  revision: string;
  /** inside of the repository, without slashes around it; '' for the whole */
  path: string;
}

const SCHEME = 'hf://';
const DATASETS = 'datasets/';
/** As the Hub allows them: what could lead out of the cache's folder is no name. */
const NAME = /^(?!.*(?:--|\.\.))[\w](?:[\w.-]*\w)?$/;
/** Revisions that hold slashes; any other slash ends a revision, unless it is written %2F. */
const REFS = /^refs\/(?:pr|convert)\/[^/]+/;

/** Whether a text is meant as an address of the Hub; `parseHubAddress` says whether it is a good one. */
export const isHubAddress = (text: string) => text.startsWith(SCHEME);

/**
 * Reads `hf://org/name[@revision]` (a model) or `hf://datasets/org/name[@revision][/path]`.
 *
 * @throws UserError where it is no such address
 */
export function parseHubAddress(given: string): HubAddress {
  const rest = given.slice(SCHEME.length);
  const type = rest.startsWith(DATASETS) ? 'dataset' : 'model';
  const whole = type === 'dataset' ? rest.slice(DATASETS.length) : rest;
  const expected = type === 'dataset' ? 'hf://datasets/org/name[@revision][/path]' : 'hf://org/name[@revision]';
  const refuse = (why: string) => new UserError(`${shown(given)}: ${why}; expected ${expected}.`);
  const [, organisation = '', name = '', at = '', after = ''] = /^([^/]*)\/([^/@]*)(@?)(.*)$/s.exec(whole) ?? [];
  if (!NAME.test(organisation) || !NAME.test(name)) throw refuse('this names no repository of the Hugging Face Hub');
  const written = at === '' ? '' : (REFS.exec(after)?.[0] ?? after.split('/', 1)[0]!);
  const revision = at === '' ? 'main' : decoded(written);
  if (!revision || /(?:^|\/)\.{0,2}(?:\/|$)|[\\\0]/.test(revision))
    throw refuse('it has an @ and no revision after it');
  const path = after.slice(written.length).replace(/^\/+|\/+$/g, '');
  if (path.split('/').includes('..') || path.includes('\\')) throw refuse('its path leads out of the repository');
  if (type === 'model' && path) throw refuse('a checkpoint is a whole repository, so nothing can follow its name');
  return { given, type, repository: `${organisation}/${name}`, revision, path };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return '';
  }
}
