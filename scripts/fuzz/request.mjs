// A request to sb-serve's interface, as if it were a command: its arguments are the model, the path and the body, and the
// exit code says whether it was answered. No socket is opened.
import { openCheckpoint } from '@stickbreaking/eval';
import { ChatTemplate, createApi, Engine } from '@stickbreaking/serve';

let api;

async function open(checkpoint) {
  const { model, tokenizer, directory } = await openCheckpoint(checkpoint);
  const { bosToken, eosToken } = tokenizer;
  const template = ChatTemplate.open(directory, { bosToken, eosToken });
  const engine = new Engine(model, tokenizer, { batchSize: 4, queue: 8 });
  return createApi({
    engine,
    template,
    modelName: 'model',
    created: 1,
    maxTokens: 8,
    maxPromptTokens: 200,
    seconds: 20,
  });
}

export async function request([checkpoint, path, body]) {
  api ??= open(checkpoint);
  const headers = { 'content-type': 'application/json' };
  const response = await (await api).request(path, { method: 'POST', headers, body });
  const text = await response.text();
  // A fault of the server is no answer.
  if (response.status >= 500 && response.status !== 504) throw new Error(text);
  if (response.status === 200) {
    process.stdout.write(text);
    return 0;
  }
  const { message } = JSON.parse(text).error;
  process.stderr.write(`${message}\n`);
  return 1;
}
