/** A conversation as token ids. */
import type { Tokenizer } from '@stickbreaking/data';
import type { ChatMessage, ChatTemplate } from './chat_template.js';

/**
 * A template writes its special tokens itself, the beginning one included; a plain conversation begins like any document.
 *
 * @throws UserError if the template refuses the messages
 */
export function conversationIds(
  tokenizer: Tokenizer,
  template: ChatTemplate,
  messages: readonly ChatMessage[],
): number[] {
  const ids = tokenizer.encode(template.render(messages));
  return template.writesBeginning ? ids : [tokenizer.beginId, ...ids];
}
