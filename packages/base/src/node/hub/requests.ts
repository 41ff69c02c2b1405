/** Whom to ask, as whom, and what the answers mean in words. */
import { explainSystemError, UserError } from '../../errors.js';
import { shown } from '../../shown.js';
import type { HubAddress } from './address.js';

/** What every call of `@huggingface/hub` takes. */
export interface Hub {
  hubUrl: string;
  accessToken?: string;
  fetch: typeof fetch;
}

/** A connection that was kept open may be closed by the other side just as it is used again: asked once more, then. */
const fetchTwice: typeof fetch = async (...asked) => {
  try {
    return await fetch(...asked);
  } catch {
    return await fetch(...asked);
  }
};

/** @throws UserError where the endpoint is no address or the token no token */
export function hubFromEnvironment(): Hub {
  const { HF_ENDPOINT, HF_TOKEN, HUGGING_FACE_HUB_TOKEN } = process.env;
  const hubUrl = (HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');
  if (!/^https?:\/\/[^/]/.test(hubUrl) || !URL.canParse(hubUrl))
    throw new UserError(`HF_ENDPOINT is ${shown(hubUrl)}, which is no address; expected https://host.`);
  const accessToken = (HF_TOKEN || HUGGING_FACE_HUB_TOKEN)?.trim();
  if (!accessToken) return { hubUrl, fetch: fetchTwice };
  if (!/^hf_[\x21-\x7e]+$/.test(accessToken))
    throw new UserError(
      `${HF_TOKEN ? 'HF_TOKEN' : 'HUGGING_FACE_HUB_TOKEN'} is no token of the Hugging Face Hub: one begins with hf_.`,
    );
  return { hubUrl, accessToken, fetch: fetchTwice };
}

/** The connection ended before the file did. */
export class BrokenDownload extends Error {
  constructor(
    readonly received: number,
    readonly size: number,
    cause: unknown,
  ) {
    super('the connection broke', { cause });
  }
}

/** One line for an error of a call; what is not about the Hub stays as it is. */
export function explainHubError(
  error: unknown,
  { given, revision }: HubAddress,
  { hubUrl, accessToken }: Hub,
  file?: string,
): unknown {
  if (error instanceof UserError) return error;
  const what = file === undefined ? shown(given) : `${shown(given)}, ${shown(file)}`;
  const say = (why: string) => new UserError(`cannot fetch ${what}: ${why}.`, { cause: error });
  if (error instanceof BrokenDownload) {
    const parts = `after ${error.received} of ${error.size} bytes`;
    return say(`the connection to ${hubUrl} broke ${parts} and again on every try; run again to go on from there`);
  }
  const status = (error as { statusCode?: unknown }).statusCode;
  if (typeof status === 'number') return say(meaning(status, hubUrl, revision, accessToken !== undefined));
  if (error instanceof TypeError && error.message === 'fetch failed') {
    const cause = error.cause as NodeJS.ErrnoException | undefined;
    return say(
      `${hubUrl} does not answer (${cause?.code ?? cause?.message ?? 'no connection'}); with HF_HUB_OFFLINE=1 what is in the cache is used`,
    );
  }
  if (typeof (error as NodeJS.ErrnoException).code === 'string')
    return explainSystemError(error, `cannot fetch ${what}`);
  return say(`${hubUrl} answered what cannot be understood (${shown(String((error as Error).message))})`);
}

function meaning(status: number, hubUrl: string, revision: string, hasToken: boolean): string {
  if (status === 401 || status === 403) {
    const access = hasToken
      ? 'the token in HF_TOKEN has no access; ask for it on its page, or take another token'
      : 'it does not exist, or is not open to all: set HF_TOKEN to a token that has access';
    return `${hubUrl} refuses (${status}): ${access}`;
  }
  if (status === 404) return `${hubUrl} has no such repository, or no revision '${shown(revision)}' of it (404)`;
  if (status === 429) return `${hubUrl} was asked too often (429); wait a while and run again`;
  return `${hubUrl} failed (${status}); run again later`;
}
