/**
 * A conversation as the text that a model goes on from: by the chat template that came with its tokenizer, as
 * `transformers` reads it, or by a plain one.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Template } from '@huggingface/jinja';
import { ownValue, shown, UserError } from '@stickbreaking/base';
import { readWhole } from '@stickbreaking/base/node';
import { z } from 'zod';

/** One turn of a conversation. */
export interface ChatMessage {
  /** `system`, `user` or `assistant`; a template may know more. */
  role: string;
  content: string;
}

/** Tokens that a template may name, as the vocabulary spells them. */
export interface TemplateTokens {
  bosToken: string | undefined;
  eosToken: string;
}

const PLAIN = 'a plain template (User: … Assistant: …), as the tokenizer has none';

/** What `tokenizer_config.json` may say: one template, or several by name. */
const ConfigSchema = z.object({
  chat_template: z
    .union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))])
    .nullish()
    .transform((given) =>
      Array.isArray(given) ? given.find(({ name }) => name === 'default')?.template : (given ?? undefined),
    ),
});

/** Turns messages into text. */
export class ChatTemplate {
  private constructor(
    private readonly template: Template | undefined,
    private readonly tokens: TemplateTokens,
    /** Where the template comes from, for people. */
    readonly source: string,
  ) {}

  /**
   * The template beside a tokenizer: `chat_template.jinja`, or `chat_template` in `tokenizer_config.json`.
   *
   * @param file a template of one's own, in Jinja
   * @throws UserError if a template cannot be read
   */
  static open(directory: string, tokens: TemplateTokens, file?: string): ChatTemplate {
    const found = file === undefined ? templateIn(directory) : { text: readWhole(file).toString(), source: file };
    if (!found) return new ChatTemplate(undefined, tokens, PLAIN);
    try {
      return new ChatTemplate(new Template(found.text), tokens, found.source);
    } catch (error) {
      throw new UserError(`${found.source}: the chat template cannot be read: ${(error as Error).message}.`);
    }
  }

  /** Texts at which an answer ends, beside the tokenizer's end tokens: a plain model would write both parts. */
  get stopTexts(): string[] {
    return this.template ? [] : ['\nUser:'];
  }

  /** A template writes the beginning token itself, where its model wants one. */
  get writesBeginning(): boolean {
    return this.template !== undefined;
  }

  /**
   * The text of a conversation, up to where the assistant's answer begins.
   *
   * @throws UserError if the template refuses the messages, as some do where roles do not alternate
   */
  render(messages: readonly ChatMessage[]): string {
    if (!this.template) return plain(messages);
    try {
      return this.template.render({
        messages: messages.map((message) => ({ ...message })),
        add_generation_prompt: true,
        bos_token: this.tokens.bosToken ?? '',
        eos_token: this.tokens.eosToken,
      });
    } catch (error) {
      throw new UserError(`The chat template refuses these messages: ${shown((error as Error).message)}.`);
    }
  }
}

function templateIn(directory: string): { text: string; source: string } | undefined {
  const file = join(directory, 'chat_template.jinja');
  if (existsSync(file)) return { text: readWhole(file).toString(), source: file };
  const config = join(directory, 'tokenizer_config.json');
  if (!existsSync(config)) return undefined;
  let content: unknown;
  try {
    content = JSON.parse(readWhole(config).toString());
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${config} is not JSON: ${(error as Error).message}.`);
  }
  const parsed = ConfigSchema.safeParse(content);
  if (!parsed.success)
    throw new UserError(`${config}: chat_template: expected a text, or a list of { name, template }.`);
  const text = parsed.data.chat_template;
  return text === undefined ? undefined : { text, source: config };
}

const NAMES: Record<string, string> = { system: 'System', user: 'User', assistant: 'Assistant' };

function plain(messages: readonly ChatMessage[]): string {
  const turns = messages.map(({ role, content }) => `${ownValue(NAMES, role) ?? role}: ${content}\n`);
  return `${turns.join('')}Assistant:`;
}
