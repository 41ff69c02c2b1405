import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { ChatTemplate } from './chat_template.js';

const folder = mkdtempSync(join(tmpdir(), 'template-'));
afterAll(() => rmSync(folder, { recursive: true }));
const tokens = { bosToken: '<s>', eosToken: '</s>' };
const open = (file?: string) => ChatTemplate.open(folder, tokens, file);
const messages = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'Hello' },
];
const config = join(folder, 'tokenizer_config.json');
const beside = join(folder, 'chat_template.jinja');
beforeEach(() => {
  for (const file of [config, beside]) rmSync(file, { force: true });
});

// In the style of ChatML, and of a template that wants turns to alternate.
const chatMl =
  "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const strict =
  "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}" +
  "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m['content'] | trim }}]{% endfor %}{{ eos_token }}";

describe('ChatTemplate', () => {
  it('is plain where the tokenizer has none', () => {
    expect(open().render(messages)).toBe('System: Be brief.\nUser: Hello\nAssistant:');
    const odd = [{ role: 'constructor', content: 'Hello' }] as unknown as typeof messages;
    expect(open().render(odd)).toBe('constructor: Hello\nAssistant:');
    expect(open().stopTexts).toEqual(['\nUser:']);
    writeFileSync(config, '{"chat_template": null}');
    expect(open().source).toMatch(/plain/);
  });

  it.each([
    ['tokenizer_config.json', () => writeFileSync(config, JSON.stringify({ chat_template: chatMl }))],
    [
      'several by name',
      () =>
        writeFileSync(
          config,
          JSON.stringify({
            chat_template: [
              { name: 'tool_use', template: 'x' },
              { name: 'default', template: chatMl },
            ],
          }),
        ),
    ],
    [
      'a file, which comes first',
      () => {
        writeFileSync(config, JSON.stringify({ chat_template: 'x' }));
        writeFileSync(beside, chatMl);
      },
    ],
  ])('is the tokenizer’s: %s', (_, write) => {
    write();
    const expected =
      '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n';
    expect(open().render(messages)).toBe(expected);
    expect(open().stopTexts).toEqual([]);
  });

  it('knows the tokens and may refuse messages', () => {
    writeFileSync(beside, strict);
    expect(open().render([{ role: 'user', content: ' Hello ' }])).toBe('<s>[Hello]</s>');
    expect(() => open().render(messages)).toThrow(/refuses these messages: .*roles must alternate/);
  });

  it('is told in one line to be wrong', () => {
    const own = join(folder, 'own.jinja');
    writeFileSync(own, '{% for x %}');
    expect(() => open(own)).toThrow(/own\.jinja: the chat template cannot be read/);
    expect(() => open(join(folder, 'none.jinja'))).toThrow(/cannot read .*none\.jinja/);
    writeFileSync(config, '{"chat_template": 5}');
    expect(() => open()).toThrow(/tokenizer_config\.json: chat_template: expected a text/);
    writeFileSync(config, '{');
    expect(() => open()).toThrow(/tokenizer_config\.json is not JSON/);
  });
});
