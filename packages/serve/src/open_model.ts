/** What both commands open: a checkpoint, with the chat template beside its tokenizer. */
import { dirname } from 'node:path';
import { selectBackend } from '@stickbreaking/core';
import { type SpecialTokenArguments, specialTokenOptions, specialTokensFrom } from '@stickbreaking/data';
import { modelOptions, type OpenedCheckpoint, openCheckpoint, verifyOption } from '@stickbreaking/eval';
import { ChatTemplate } from './chat_template.js';

export interface ModelArguments extends SpecialTokenArguments {
  checkpoint: string;
  chatTemplate: string | undefined;
  tokenizer: string | undefined;
  verify: boolean;
  backend: string;
}

export const openOptions = {
  ...modelOptions,
  'chat-template': {
    type: 'string',
    describe: 'a Jinja file; default: the one beside the tokenizer, or a plain one where it has none',
  },
  ...specialTokenOptions,
  ...verifyOption,
} as const;

export async function openModel(
  args: ModelArguments,
): Promise<OpenedCheckpoint & { template: ChatTemplate; backend: string }> {
  const backend = await selectBackend(args.backend);
  const opened = await openCheckpoint(args.checkpoint, { ...args, specialTokens: specialTokensFrom(args) });
  const { bosToken, eosToken, path } = opened.tokenizer;
  const template = ChatTemplate.open(dirname(path), { bosToken, eosToken }, args.chatTemplate);
  return { ...opened, template, backend: backend.description };
}
