/** What the HTTP interface serves, and its limits. */
import type { ChatTemplate } from './chat_template.js';
import type { Engine } from './engine.js';

export interface ApiOptions {
  engine: Engine;
  template: ChatTemplate;
  /** What clients call the model. */
  modelName: string;
  /** Unix seconds at which the model was saved. */
  created: number;
  /** Tokens that one continuation may have at most; default 4096. */
  maxTokens?: number;
  /** Tokens that a prompt may have at most; default 65,536. */
  maxPromptTokens?: number;
  /** Seconds that a request may take; default 600. */
  seconds?: number;
  /** Bytes that a request's body may have; default 4 MiB. */
  maxBodyBytes?: number;
  /** Asked for as a bearer token, if given. */
  apiKey?: string | undefined;
}

/** What every handler needs. */
export type Api = Required<Omit<ApiOptions, 'apiKey'>>;
