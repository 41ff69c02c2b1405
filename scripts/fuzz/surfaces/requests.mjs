// What clients send to sb-serve.
import { join } from 'node:path';
import { jsonText, mutatedBytes, mutatedTree } from './shared.mjs';

const sampling = { model: 'model', temperature: 0.7, top_p: 0.9, top_k: 5, seed: 3, stop: ['\n', 'the'], n: 2 };
const bodies = {
  '/v1/completions': [
    { ...sampling, prompt: 'It is so', max_tokens: 3, logprobs: 2, echo: true },
    {
      ...sampling,
      prompt: [[4, 5, 6], [7]],
      max_tokens: 2,
      n: 1,
      stream: true,
      stream_options: { include_usage: true },
    },
    { model: 'model', prompt: ['a', 'b'], max_tokens: 2, repetition_penalty: 1.1, min_p: 0.1 },
  ],
  '/v1/chat/completions': [
    { ...sampling, messages: [{ role: 'user', content: 'It is so' }], max_tokens: 3, logprobs: true, top_logprobs: 2 },
    {
      messages: [
        { role: 'system', content: 'Be short.' },
        { role: 'user', content: [{ type: 'text', text: 'It is' }] },
      ],
      max_completion_tokens: 2,
      stream: true,
    },
  ],
};

/** As many choices as were asked for, each whole; a stream that ends as one. */
function answerFault(body, text) {
  if (text.startsWith('data: ')) {
    const events = text.trimEnd().split('\n\n');
    if (events.at(-1) !== 'data: [DONE]') return `the stream ends with ${events.at(-1)}`;
    const error = events.slice(0, -1).find((event) => JSON.parse(event.slice(6)).error);
    return error && /internal|TypeError/i.test(error) ? error : undefined;
  }
  const { choices, usage } = JSON.parse(text);
  const { prompt, n } = body;
  const prompts = Array.isArray(prompt) && typeof prompt[0] !== 'number' ? prompt.length : 1;
  if (choices.length !== prompts * (n ?? 1)) return `${choices.length} choices for ${prompts} prompts, ${n} of each`;
  if (!choices.every(({ finish_reason }) => ['stop', 'length'].includes(finish_reason)))
    return 'a choice that has no end';
  return Number.isFinite(usage.total_tokens) ? undefined : 'usage that is no number';
}

export const requests = {
  /** A request's body: its tree, or its bytes. */
  async request({ base, choose, mutations }) {
    const path = choose.pick(Object.keys(bodies));
    const tree = choose.pick(bodies[path]);
    const asTree = choose.below(3) > 0;
    const body = asTree
      ? jsonText(mutatedTree(tree, mutations))
      : mutatedBytes(Buffer.from(JSON.stringify(tree)), mutations);
    const accepted = ({ stdout }) => answerFault(JSON.parse(body.toString()), stdout);
    return { command: 'request', args: [join(base, 'run'), path, body], accepted };
  },
};
