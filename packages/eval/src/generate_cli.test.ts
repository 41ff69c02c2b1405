/** sb-generate over files of prompts: each continuation is the one that the prompt has alone, and nothing is made twice. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EXIT } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { trainTokenizer } from '@stickbreaking/data';
import { LlamaModel, parseConfig } from '@stickbreaking/model';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { main } from './generate_cli.js';
import type { ContinuationRecord } from './generation/continuation.js';
import { runHere } from './run_here.fixture.js';

const folder = mkdtempSync(join(tmpdir(), 'sb-generate-'));
const at = (name: string) => join(folder, name);

beforeAll(async () => {
  await selectBackend('cpu');
  writeFileSync(at('text.txt'), 'A few words of a text, and a few more of them. '.repeat(20));
  mkdirSync(at('model'));
  await trainTokenizer({ sources: [{ path: at('text.txt') }], vocabSize: 280, output: at('model/tokenizer.json') });
  const sizes = { vocabSize: 280, hiddenSize: 24, intermediateSize: 32, numLayers: 2, numHeads: 4 };
  LlamaModel.create(parseConfig({ ...sizes, initializerRange: 0.2 }), { seed: 1 }).save(at('model'));
  const lines = ['"A few"', '{"prompt": "words of", "id": "second", "seed": 9}', '', '"and more"'];
  writeFileSync(at('prompts.jsonl'), lines.join('\n'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const run = (...argv: string[]) => runHere(main, '--backend', 'cpu', '--checkpoint', at('model'), ...argv);
const limits = ['--max-new-tokens', '6', '--temperature', '1', '--top-p', '1'];
const recordsIn = (text: string) =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as ContinuationRecord)
    .sort((a, b) => a.index - b.index);

describe('sb-generate --prompt', () => {
  it('says that an empty one begins from the opening token alone', async () => {
    const { code, stderr } = await run('--prompt', '', ...limits);
    expect([code, stderr]).toEqual([
      0,
      expect.stringMatching(/^The prompt is empty: .* opens a document \(0\) alone\.$/m),
    ]);
  });
});

describe('more tokens than memory could hold', () => {
  it.each([
    ['--prompt', 'A few'],
    ['--prompts', at('prompts.jsonl')],
  ])('are refused before anything is written: %s', async (...prompt) => {
    const { code, stdout, stderr } = await run(...prompt, '--max-new-tokens', '999999999');
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^maxNewTokens is 999999999\. The keys and values of \d+ tokens need [^\n]*\n$/m);
  });
});

describe('sb-generate --prompts', () => {
  it('ends a line at its line feed alone, and refuses one that does not end', async () => {
    writeFileSync(at('odd.jsonl'), '"a\u2028b"\r\n\n"c"');
    const odd = await run('--prompts', at('odd.jsonl'), '--max-new-tokens', '1');
    const prompts = odd.stdout.trim().split('\n');
    expect(prompts.map((line) => JSON.parse(line).prompt)).toEqual(['a\u2028b', 'c']);
    const endless = await run('--prompts', '/dev/zero', '--max-new-tokens', '1');
    expect(endless).toMatchObject({ code: 1, stdout: '' });
    expect(endless.stderr).toMatch(
      /^\/dev\/zero, line 1: more than 16777216 characters; expected a prompt a line\.\n$/,
    );
  });

  it('continues each as it would alone', async () => {
    const { code, stdout } = await run('--prompts', at('prompts.jsonl'), '--seed', '4', ...limits);
    expect(code).toBe(0);
    const records = recordsIn(stdout);
    expect(records.map(({ index, id, prompt }) => ({ index, id, prompt }))).toEqual([
      { index: 0, prompt: 'A few' },
      { index: 1, id: 'second', prompt: 'words of' },
      { index: 2, prompt: 'and more' },
    ]);
    for (const [i, seed] of [4, 9, 6].entries()) {
      const { prompt, text, tokens } = records[i]!;
      const alone = recordsIn((await run('--prompt', prompt, '--json', '--seed', String(seed), ...limits)).stdout)[0]!;
      expect({ text, tokens }).toEqual({ text: alone.text, tokens: alone.tokens });
      expect(tokens).toBeGreaterThan(0);
      expect(text).not.toBe('');
    }
  });

  it('goes on with an output file where it stopped, and echoes and scores where asked', async () => {
    const args = [
      '--prompts',
      at('prompts.jsonl'),
      '--output',
      at('out.jsonl'),
      '--echo',
      '--logprobs',
      '2',
      ...limits,
    ];
    expect((await run(...args)).code).toBe(0);
    const whole = recordsIn(readFileSync(at('out.jsonl'), 'utf8'));
    expect(whole).toHaveLength(3);
    for (const { prompt, text, tokens, logprobs } of whole) {
      expect(text.startsWith(prompt)).toBe(true);
      expect(logprobs).toHaveLength(tokens);
      for (const { logprob, top } of logprobs!) {
        expect(logprob).toBeLessThan(0);
        expect(top).toHaveLength(2);
      }
    }
    // One line whole and another cut off in the middle, as by a kill.
    const lines = readFileSync(at('out.jsonl'), 'utf8').split('\n');
    writeFileSync(at('out.jsonl'), `${lines[0]}\n${lines[1]!.slice(0, 20)}`);
    const again = await run(...args);
    expect(again.stderr).toMatch(/^2 prompts, \d+ tokens/);
    expect(recordsIn(readFileSync(at('out.jsonl'), 'utf8'))).toEqual(whole);
  });

  it.each([
    [['--temperature', '0.9'], /prompt \d was continued with temperature 1, not temperature 0\.9; name another file/],
    [['--seed', '3'], /continued with seed 0, not seed 3/],
    [['--top-k', '5'], /continued with no topK, not topK 5/],
    [['--stop', 'x'], /continued with stop \[\], not stop \["x"\]/],
    [['--bos-token', 'a'], /continued with model "\w+", not model/],
  ])('does not go on with an output file under other settings: %j', async (other, message) => {
    const base = [
      '--prompts',
      at('prompts.jsonl'),
      '--output',
      at('own.jsonl'),
      '--max-new-tokens',
      '2',
      '--top-p',
      '1',
    ];
    expect((await run(...base, '--temperature', '1')).code).toBe(0);
    const before = readFileSync(at('own.jsonl'), 'utf8');
    const kept = other.includes('--temperature') ? [] : ['--temperature', '1'];
    const { code, stderr } = await run(...base, ...kept, ...other);
    expect(stderr).toMatch(message);
    expect(code).toBe(EXIT.refused);
    expect(readFileSync(at('own.jsonl'), 'utf8')).toBe(before);
  });

  it('ends at a stop text, which is no part of the text', async () => {
    const [first] = recordsIn((await run('--prompt', 'A few', '--json', ...limits)).stdout);
    const stop = first!.text.slice(2, 4);
    const [stopped] = recordsIn((await run('--prompt', 'A few', '--json', '--stop', stop, ...limits)).stdout);
    expect(stopped).toMatchObject({ text: first!.text.slice(0, first!.text.indexOf(stop)), end: 'stop' });
  });

  it.each([
    ['{"prompt": 5}', /line 1: expected a string, or an object whose "prompt"/],
    ['{', /line 1: .*expected JSON/],
    ['{"prompt": "a", "top_k": 5}', /line 1: "top_k" is not read here; --top-k sets it for all prompts/],
  ])('names the line that is no prompt: %s', async (line, message) => {
    writeFileSync(at('bad.jsonl'), line);
    const { code, stderr } = await run('--prompts', at('bad.jsonl'));
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
    expect(stderr.split('\n')).toHaveLength(2);
  });
});
