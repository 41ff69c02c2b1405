// Text: sources in each of their formats, and prompts.
import { join } from 'node:path';
import { backend } from '../fixtures.mjs';
import { oddText } from '../mutate.mjs';
import { evalArguments, expectedScores, finiteScores, mutatedBytes, mutateFile, sameScores } from './shared.mjs';

export const text = {
  /** A source of text, in each of its formats. */
  async source(tools) {
    const { base, folder, choose, mutations, copy } = tools;
    const endings = ['jsonl', 'jsonl.gz', 'jsonl.zst', 'jsonl.bz2', 'jsonl.xz', 'json', 'txt', 'parquet', 'parquet'];
    const name = `text.${choose.pick(endings)}`;
    copy(name);
    mutateFile(join(folder, name), mutations);
    const args = (where) =>
      evalArguments(base).map((one) => (one.endsWith('held-out.jsonl') ? join(where, name) : one));
    // Compressed files have a checksum, so that nothing but the same text may come out of them.
    const accepted = /\.(gz|zst|bz2|xz)$/.test(name)
      ? sameScores(await expectedScores(tools, args(base)))
      : finiteScores;
    return { command: 'sb-eval', args: args(folder), accepted };
  },

  /** Prompts, which must come out as they went in. */
  async prompt({ base, choose, mutations }) {
    const words = mutatedBytes(Buffer.from('"Peace" and \'war\' — - item = {a: 1}, 100 %'), mutations).toString();
    const prompt = choose
      .pick([words, words, oddText(choose)])
      .replaceAll('\0', '')
      .toWellFormed();
    const rest = ['--max-new-tokens', '2', '--backend', backend, '--seed', String(choose.below(100))];
    const accepted = ({ stdout }) =>
      stdout.startsWith(prompt) ? undefined : `${JSON.stringify(stdout.slice(0, 100))} does not begin with the prompt`;
    return { command: 'sb-generate', args: ['--checkpoint', join(base, 'run'), '--prompt', prompt, ...rest], accepted };
  },
};
