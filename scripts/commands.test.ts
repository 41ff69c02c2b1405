/** What holds of every command: its results as JSON, its source options, its help, what it says of a misspelt option. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { commands as board } from '@stickbreaking/board/commands';
import { commands as data } from '@stickbreaking/data/commands';
import { commands as evaluation } from '@stickbreaking/eval/commands';
import { commands as serving } from '@stickbreaking/serve/commands';
import { commands as study } from '@stickbreaking/study/commands';
import { commands as training } from '@stickbreaking/train/commands';
import { commands as web } from '@stickbreaking/web/commands';
import { commands as whole } from 'stickbreaking/commands';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { manifestsOf } from './release/packages.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const commands: Record<string, (argv: string[]) => Promise<number>> = {
  ...{ ...board, ...data, ...evaluation, ...serving, ...study, ...training, ...web, ...whole },
};
/** The commands of a command, each with options of its own. */
const parts: Record<string, string[]> = {
  'sb-tokenizer': ['train', 'shrink'],
  'sb-eval': ['', '--tasks=piqa', 'tasks', 'score', 'compare'],
  stickbreaking: ['quickstart'],
};
const all = Object.keys(commands).flatMap((name) => (parts[name] ?? ['']).map((part) => [name, part] as const));

const folder = mkdtempSync(join(tmpdir(), 'sb-commands-'));
const at = (name: string) => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function run(name: string, ...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const written = { stdout: '', stderr: '' };
  const spies = (['stdout', 'stderr'] as const).map((stream) =>
    vi.spyOn(process[stream], 'write').mockImplementation((chunk) => {
      written[stream] += String(chunk);
      return true;
    }),
  );
  const logged = vi.spyOn(console, 'log').mockImplementation((line) => {
    written.stdout += `${line}\n`;
  });
  try {
    return { code: await commands[name]!(argv), ...written };
  } finally {
    for (const spy of [...spies, logged]) spy.mockRestore();
  }
}

const helpOf = async (name: string, part: string) => (await run(name, ...(part ? [part] : []), '--help')).stdout;

it('the table has every command that the packages bring', () => {
  const bins = manifestsOf(root).flatMap(({ bin = {} }) => Object.keys(bin));
  expect(Object.keys(commands).sort()).toEqual([...new Set(bins)].sort());
});

it('--tasks --help is no task by that name', async () => {
  expect(await helpOf('sb-eval', '--tasks')).toContain('Scores of a checkpoint on tasks.');
});

describe.each(all)('%s %s', (name, part) => {
  it('says its options, and which one a misspelt one may be', async () => {
    expect(await helpOf(name, part)).toContain('--help');
    const wrong = await run(name, ...(part ? [part] : []), '--hepl');
    expect(wrong).toMatchObject({ code: 2, stdout: '' });
    expect(wrong.stderr).toMatch(/^[^\n]*Unknown arguments?: hepl; did you mean --help\? \(see --help\)\n$/);
  });

  // A server and a conversation go on until somebody ends them; they have no result.
  it.skipIf(['sb-board', 'sb-serve', 'sb-chat'].includes(name))('has --json', async () => {
    expect(await helpOf(name, part)).toMatch(/--json /);
  });

  it('has all options of sources where it reads text', async () => {
    const help = await helpOf(name, part);
    const readsText = ['sb-tokenizer train', 'sb-eval '].includes(`${name} ${part}`);
    const found = ['field', 'format', 'split', 'invalid-text', 'limit'].filter((one) => help.includes(`--${one} `));
    if (readsText) expect(found).toHaveLength(5);
    expect(/--data /.test(help)).toBe(readsText);
  });
});

const text = Array.from({ length: 24 }, (_, i) => `The ${i}th line of a text has ${i * i} words, or so they say.`);

beforeAll(() => {
  writeFileSync(at('text.txt'), text.join('\n'));
  writeFileSync(at('lines.jsonl'), text.map((one) => `${JSON.stringify({ text: one })}\n`).join(''));
  writeFileSync(at('prompts.jsonl'), text.map((one) => `${JSON.stringify(one)}\n`).join(''));
  mkdirSync(at('data/baber/piqa'), { recursive: true });
  for (const split of ['train', 'validation']) {
    const rows = text.map((goal, i) => JSON.stringify({ goal, sol1: 'wash it', sol2: 'burn it', label: i % 2 }));
    writeFileSync(at(`data/baber/piqa/${split}.jsonl`), `${rows.join('\n')}\n`);
  }
  const model = { vocabSize: 300, hiddenSize: 16, intermediateSize: 24, numLayers: 1, numHeads: 2, contextLength: 64 };
  const schedule = { kind: 'constant', peak: 0.003 };
  const stages = [{ steps: 2, schedule, data: [{ path: at('lines.jsonl') }] }];
  const sizes = { batchTokens: 64, microBatchTokens: 64, backend: 'cpu' };
  const config = { output: at('run'), tokenizer: at('new/tokenizer.json'), model, stages, ...sizes };
  writeFileSync(at('run.yaml'), JSON.stringify({ ...config, validation: { data: stages[0]!.data, tokens: 64 } }));
});

const cpu = ['--backend', 'cpu'];
const checkpoint = ['--checkpoint', at('run'), ...cpu];

/** Each goes on from what those before it made. */
const results: [string, string[], object][] = [
  [
    'sb-tokenizer',
    ['train', '--data', at('text.txt'), '--vocab-size', '300', '--output', at('new/tokenizer.json')],
    { output: at('new/tokenizer.json'), vocabSize: 300, bytes: text.join('\n').length },
  ],
  [
    'sb-tokenizer',
    ['shrink', '--input', at('new/tokenizer.json'), '--vocab-size', '280', '--output', at('new/small.json')],
    { output: at('new/small.json'), vocabSize: 280 },
  ],
  ['sb-train', ['--config', at('run.yaml'), '--plan'], { steps: 2, missing: [] }],
  [
    'sb-train',
    ['--config', at('run.yaml')],
    {
      ...{ output: at('run'), finished: true, step: 2, tokens: 128, checkpoint: at('run/checkpoints/step-00000002') },
      ...{ loss: expect.any(Number), validationLoss: expect.any(Number) },
    },
  ],
  [
    'sb-eval',
    [...checkpoint, '--data', at('text.txt'), '--lengths', '32', '--output', at('made/of/out.json')],
    { results: [{ length: 32 }] },
  ],
  [
    'sb-eval',
    ['--attention', ...checkpoint, '--text', 'a line of text', '--output', at('made/too/attention.html')],
    { heads: [{ layer: 0, head: 0 }, { head: 1 }] },
  ],
  ['sb-eval', ['tasks'], { tasks: expect.arrayContaining([expect.objectContaining({ name: 'piqa' })]) }],
  [
    'sb-eval',
    ['--tasks', 'piqa', ...checkpoint, '--data-dir', at('data'), '--output', at('scores/a.json'), '--log-samples'],
    { results: { piqa: {} } },
  ],
  ['sb-generate', [...checkpoint, '--prompt', 'The', '--max-new-tokens', '2'], { prompt: 'The' }],
  [
    'sb-generate',
    [...checkpoint, '--prompts', at('prompts.jsonl'), '--output', at('texts/out.jsonl'), '--max-new-tokens', '2'],
    { prompts: text.length },
  ],
  ['sb-report', [at('run'), '--output', at('reports/report.html')], { runs: [at('run')] }],
  ['sb-study', ['--config', 'mqrar-small', '--plan', `output=${at('study')}`], { finished: false, report: null }],
];

describe('results as JSON', () => {
  it.each(results)('%s %j', async (name, argv, expected) => {
    const { code, stdout, stderr } = await run(name, ...argv, '--json');
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject(expected);
  });

  it('of samples that were saved', async () => {
    const samples = readdirSync(at('scores')).find((file) => file.startsWith('a_samples_piqa_'));
    const scored = await run('sb-eval', 'score', at(`scores/${samples}`), '--json');
    expect(JSON.parse(scored.stdout)).toMatchObject([{ task: 'piqa' }]);
    const compared = await run('sb-eval', 'compare', at(`scores/${samples}`), at(`scores/${samples}`), '--json');
    expect(JSON.parse(compared.stdout)).toMatchObject({ common: text.length, onlyFirst: 0 });
  });

  it('leaves standard output to the document where the command fails', async () => {
    const failed = await run('sb-eval', ...checkpoint, '--data', at('none.txt'), '--lengths', '32', '--json');
    expect(failed).toMatchObject({ code: 1, stdout: '' });
  });
});

/** A command as a process, into whose standard input a text is piped. */
function piped(script: string, input: string, ...args: string[]) {
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const child = execFile(process.execPath, [join(root, script), ...args], (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    );
    child.stdin!.on('error', () => {}).end(input);
  });
}

describe('text from elsewhere', () => {
  const tokenizer = 'packages/data/bin/sb-tokenizer.js';
  const learn = ['train', '--vocab-size', '260', '--json', '--output'];
  const jsonLines = text.map((one) => `${JSON.stringify({ body: one })}\n`).join('');
  const bytes = (count: number) => text.slice(0, count).join('').length;

  it('from standard input, in the format that is named', async () => {
    const [plain, lines, unnamed, empty] = await Promise.all([
      piped(tokenizer, text.join('\n'), ...learn, at('a.json'), '--data', '-'),
      piped(
        ...[tokenizer, jsonLines, ...learn, at('b.json'), '--data', '-', '--format', 'jsonl', '--field', 'body'],
        ...['--limit', '20'],
      ),
      piped(tokenizer, jsonLines, ...learn, at('c.json'), '--data', '-'),
      piped(tokenizer, '', ...learn, at('d.json'), '--data', '-'),
    ]);
    expect(plain.stdout).toMatch(/^\{/); // nothing of a library either
    expect(JSON.parse(plain.stdout)).toMatchObject({ bytes: text.join('\n').length });
    expect(JSON.parse(lines.stdout)).toMatchObject({ bytes: bytes(20) });
    expect(unnamed).toMatchObject({ code: 2, stdout: '' });
    expect(unnamed.stderr).toMatch(/^What standard input holds looks like jsonl: say what it is with --format/);
    expect(empty).toMatchObject({ code: 1, stderr: 'Standard input is empty; expected text.\n' });
  });

  it('prompts too', async () => {
    const args = [...checkpoint, '--prompts', '-', '--max-new-tokens', '1'];
    const { stdout, stderr } = await piped('packages/eval/bin/sb-generate.js', '"One"\n{"prompt":"Two"}\n', ...args);
    const lines = stdout.trim().split('\n');
    expect(stdout).toMatch(/^\{/);
    expect(lines.map((line) => JSON.parse(line).prompt, stderr)).toEqual(['One', 'Two']);
  });

  it('from a list of sources in YAML, and only so many documents', async () => {
    writeFileSync(at('lines.jsonl'), jsonLines);
    writeFileSync(at('list.yaml'), `- path: \${SB_FOLDER}/lines.jsonl\n  field: body\n- path: ${at('text.txt')}\n`);
    vi.stubEnv('SB_FOLDER', folder);
    const args = [...learn, at('e.json'), '--data', at('list.yaml')];
    const whole = await run('sb-tokenizer', ...args);
    expect(JSON.parse(whole.stdout).bytes, whole.stderr).toBe(bytes(text.length) + text.join('\n').length);
    expect(JSON.parse((await run('sb-tokenizer', ...args, '--limit', '20')).stdout).bytes).toBe(bytes(20));
    const wrong = await run('sb-tokenizer', ...args, '--limit', '0');
    expect(wrong).toMatchObject({ code: 2, stderr: '--limit is 0; expected a whole number above 0.\n' });
    writeFileSync(at('list.yaml'), '- path: a\n  fild: body\n');
    expect((await run('sb-tokenizer', ...args)).stderr).toMatch(/list\.yaml:2: .*fild/);
    vi.unstubAllEnvs();
  });
});
