/** Every study, tiny, through the command. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { folder, picturesOf, resultsOf, run, sizes, studyFile, text, training } from './tiny_studies.fixture.js';

describe('sb-study', () => {
  it('runs arms at once with --jobs, and says which one failed', async () => {
    const task = { sequenceLength: 12, variables: 4, values: 4 };
    const steps = { steps: 4, sequences: 2, warmupSteps: 1, checkEvery: 2, checkSequences: 4, testSequences: 4 };
    const args = studyFile('together', {
      study: 'mqrar',
      ...{ task, pairs: [2], learningRates: [0.001, 0.01], model: { ...sizes, numHeads: 1 }, training: steps },
      arms: [
        { name: 'stick-breaking', attention: 'stick-breaking' },
        { name: 'softmax+RoPE', attention: 'softmax+rope' },
      ],
    });
    const { code, said } = await run(...args, '--jobs', '2', 'seeds=[3]');
    expect(said.match(/: done in/g)).toHaveLength(4);
    expect(code).toBe(0);
    expect(resultsOf('together')).toMatchObject({ missing: [], configuration: { seeds: [3] } });
    const arms = join(folder, 'together', 'arms');
    const [first] = readdirSync(arms);
    rmSync(join(arms, first!), { recursive: true });
    writeFileSync(join(arms, first!), 'no folder');
    const again = await run(...args, '--jobs', '2', 'seeds=[3]');
    expect(again.code).not.toBe(0);
    expect(again.said.trim().split('\n').at(-1)).toMatch(
      /pairs, lr .*: cannot make the directory .*: a file is in the way/,
    );
  });

  it('runs MQRAR, and leaves report, numbers and pictures', async () => {
    const task = { sequenceLength: 12, variables: 4, values: 4 };
    const steps = { steps: 4, sequences: 2, warmupSteps: 1, checkEvery: 2, checkSequences: 4, testSequences: 4 };
    const args = studyFile('mqrar', {
      study: 'mqrar',
      ...{ task, pairs: [2, 3], learningRates: [0.001, 0.01], model: { ...sizes, numHeads: 1 } },
      training: { ...steps, fewestPairs: 3 },
      arms: [
        { name: 'stick-breaking', attention: 'stick-breaking' },
        {
          ...{ name: 'softmax+RoPE', attention: 'softmax+rope' },
          recipes: [
            { fewestPairs: 3, learningRates: [0.001] },
            { fewestPairs: 2, learningRates: [0.003] },
          ],
        },
      ],
      example: {
        ...{ pairs: 3, sequenceLength: 12, learningRates: [0.001], model: { ...sizes, numHeads: 1 }, training: steps },
        arms: ['stick-breaking', 'softmax+RoPE'],
      },
    });
    const { code, said } = await run(...args);
    expect(said).toContain('[10/10] figure 4, softmax+RoPE, lr 1e-3: done');
    expect(code).toBe(0);
    const { rows, findings, arms, missing } = resultsOf('mqrar');
    expect(rows).toHaveLength(10);
    expect(arms[7].id).toBe('softmax+RoPE, 3 pairs, from 2, lr 3e-3');
    expect(rows[7]).toMatchObject({ pairs: 3, fewestPairs: 2, learningRate: 0.003 });
    expect(missing).toEqual([]);
    expect(findings).toHaveLength(3);
    expect(arms[0].result).toMatchObject({ steps: 4, tokens: 96, checks: [{ step: 2 }, { step: 4 }] });
    expect(arms[9].result.example.questions.map(({ expected }: { expected: string }) => expected).join('')).toBe(
      '3621',
    );
    const layers = ['softmax-RoPE', 'stick-breaking'].flatMap((name) =>
      [1, 2].map((layer) => `figure-4-${name}-layer-${layer}-head-1.svg`),
    );
    expect(picturesOf('mqrar')).toEqual(['figure-3.svg', ...layers, 'learning.svg', 'mixtures.svg']);
    expect(readFileSync(join(folder, 'mqrar/results/results.csv'), 'utf8').split('\r\n')).toHaveLength(12);
    const again = await run(...args);
    expect(again.said).toContain('10 of 10 arms are done already');
    expect(again.said).not.toContain(': done in');
    expect((await run(...args, '--plan')).said).toContain('10 arms, 10 done');
    expect((await run(...args, '--report-only')).said).toContain('results/report.html');
    const none = await run(...args, `output=${join(folder, 'none')}`, '--only', 'no such arm');
    expect(none.said).toMatch(/Some arms are still to be run\. No arm is done yet, so that there is no report\n$/);
    expect([none.code, existsSync(join(folder, 'none/results/report.html'))]).toEqual([75, false]);
  });

  it('runs length extrapolation: trained arms, arms of their weights, seeds, the best of several learning rates', async () => {
    const rope = (factor: number) => ({
      kind: 'softmax',
      position: { kind: 'rope', scaling: { kind: 'ntk', factor } },
    });
    const args = studyFile('extrapolation', {
      study: 'length-extrapolation',
      ...{ text, model: sizes, training, evaluation: { times: 4, tokens: 256 }, seeds: [0, 1] },
      arms: [
        { name: 'stick-breaking', attention: 'stick-breaking' },
        { name: 'RoPE', attention: 'softmax+rope', learningRates: [1e-9, 0.003] },
        { name: 'RoPE, NTK', of: 'RoPE', attention: rope(1) },
      ],
    });
    const { code, said } = await run(...args);
    expect(said).toContain('[4/10] RoPE, NTK, lr 1e-9, seed 0: skipped: RoPE, lr 3e-3, seed 0 is better at the tr');
    expect(said).toContain('[8/10] RoPE, lr 3e-3, seed 1: done');
    expect(said).toContain('[10/10] RoPE, NTK, lr 3e-3, seed 1: done');
    expect(code).toBe(0);
    const { rows, arms, missing } = resultsOf('extrapolation');
    expect(missing).toEqual([]);
    expect(arms).toHaveLength(7);
    expect(rows).toHaveLength(21);
    expect(readFileSync(join(folder, 'extrapolation/results/report.html'), 'utf8')).toContain('(kept)');
    expect(rows.map(({ length }: { length: number }) => length).slice(0, 3)).toEqual([16, 32, 64]);
    const nll = (id: string) =>
      arms.find((arm: { id: string }) => arm.id === id).result.lengths.map((one: { nll: number }) => one.nll);
    // A scaling by 1 is none: the weights are those of the arm that was trained.
    for (const [i, value] of nll('RoPE, NTK, lr 3e-3, seed 0').entries()) {
      expect(value).toBeCloseTo(nll('RoPE, lr 3e-3, seed 0')[i], 5);
    }
    expect(nll('RoPE, lr 3e-3, seed 1')).not.toEqual(nll('RoPE, lr 3e-3, seed 0'));
    expect(picturesOf('extrapolation')).toEqual(['loss-by-length.svg', 'loss-by-position.svg', 'training-loss.svg']);
  });

  it('runs context extension: before, scaled, after', async () => {
    const dynamic = { kind: 'rope', scaling: { kind: 'dynamic', factor: 4 } };
    const args = studyFile('extension', {
      study: 'context-extension',
      ...{ text, model: sizes, training, evaluation: { times: 8, tokens: 256 }, learningRates: [0.003] },
      extension: { factor: 2, steps: 3, batchTokens: 64, warmupSteps: 1 },
      arms: [
        { name: 'stick-breaking', attention: 'stick-breaking', learningRates: [0.003, 1e-9] },
        { name: 'RoPE', attention: 'softmax+rope', extended: { kind: 'softmax', position: dynamic } },
      ],
    });
    const { code } = await run(...args);
    expect(code).toBe(0);
    const { rows, findings, arms, missing } = resultsOf('extension');
    expect(arms.map(({ id }: { id: string }) => id)).toEqual([
      ...['stick-breaking, lr 3e-3, before, seed 0', 'stick-breaking, lr 1e-9, before, seed 0'],
      'stick-breaking, lr 3e-3, after, seed 0',
      ...['RoPE, before, seed 0', 'RoPE, before, scaled, seed 0', 'RoPE, after, seed 0'],
    ]);
    expect(missing).toEqual([]);
    expect(rows).toHaveLength(24);
    expect(findings).toHaveLength(4);
    expect(arms[2].result.tokens).toBe(3 * 64);
    expect(picturesOf('extension')).toEqual(['extension.svg', 'loss-by-position.svg']);
  });

  it('runs speed: measures in processes of their own, counts the tiles skipped', async () => {
    const args = studyFile('speed', {
      study: 'speed',
      ...{ model: sizes, vocabSize: 280, lengths: [8, 16], tokens: 16, steps: 1, warmupSteps: 0 },
      arms: [
        { name: 'stick-breaking', attention: 'stick-breaking' },
        { name: 'softmax+RoPE', attention: 'softmax+rope', lengths: [16] },
      ],
      skipping: { text, model: sizes, training, length: 256, windows: 2 },
    });
    const { code } = await run(...args);
    expect(code).toBe(0);
    const { rows, arms, findings } = resultsOf('speed');
    expect(rows).toHaveLength(3);
    for (const { tokensPerSecond, peakBytes } of rows) {
      expect(tokensPerSecond).toBeGreaterThan(0);
      expect(peakBytes).toBeGreaterThan(2 ** 25);
    }
    const { heads, length, windows } = arms.at(-1).result;
    expect([length, windows, heads.length]).toEqual([256, 2, 4]);
    for (const { byDistance, skipped } of heads) {
      expect(byDistance.reduce((a: number, b: number) => a + b, 0)).toBeCloseTo(1, 3);
      expect(skipped[0]).toBeGreaterThanOrEqual(skipped[1]);
    }
    expect(findings.map(({ source }: { source: string }) => source)).toHaveLength(3);
  });
});

describe('wrong input is one clear line', () => {
  const extrapolation = {
    study: 'length-extrapolation',
    ...{ text, model: sizes, training, evaluation: { times: 2 } },
    arms: [{ name: 'stick-breaking', attention: 'stick-breaking' }],
  };
  const cases: [string, Record<string, unknown>, RegExp][] = [
    ['a study that is none', { study: 'mqrat' }, /yaml:\d+: .*expected one of mqrar, length-extrapolation/],
    ['a misspelt key', { ...extrapolation, evaluaton: 1 }, /key 'evaluaton' is not known; did you mean 'evaluation'\?/],
    ['missing text', { ...extrapolation, text: { ...text, heldOut: join(folder, 'nothing.txt') } }, /nothing\.txt/],
    ['text without its other half', { ...extrapolation, text: { heldOut: text.heldOut } }, /both train and heldOut/],
    [
      'two arms of one name',
      { ...extrapolation, arms: [...extrapolation.arms, ...extrapolation.arms] },
      /two arms are called 'stick-breaking, seed 0'/,
    ],
    [
      'an example of an arm that is not there',
      {
        study: 'mqrar',
        ...{ task: { sequenceLength: 12, variables: 4, values: 4 }, pairs: [2], learningRates: [0.001], model: sizes },
        training: { steps: 1, sequences: 1, warmupSteps: 0 },
        arms: [{ name: 'stick-breaking', attention: 'stick-breaking' }],
        example: {
          ...{ pairs: 2, sequenceLength: 12, learningRates: [0.001], model: sizes },
          ...{ training: { steps: 1, sequences: 1, warmupSteps: 0 }, arms: ['RoPE'] },
        },
      },
      /example.arms names 'RoPE', and no arm has that id/,
    ],
    [
      'an arm of one that is not there',
      { ...extrapolation, arms: [{ name: 'a', of: 'b', attention: 'softmax+rope' }] },
      /Arm 'a' is of 'b', and no arm has that id/,
    ],
    [
      'an arm with recipes and learning rates beside them',
      {
        study: 'mqrar',
        ...{ task: { sequenceLength: 12, variables: 4, values: 4 }, pairs: [2], learningRates: [0.001], model: sizes },
        training: { steps: 1, sequences: 1, warmupSteps: 0 },
        arms: [
          {
            ...{ name: 'stick-breaking', attention: 'stick-breaking', learningRates: [0.01] },
            recipes: [{ fewestPairs: 1, learningRates: [0.001] }],
          },
        ],
      },
      /arms\.0: .*expected learningRates or recipes, .*not both/,
    ],
    [
      'learning rates of an arm that is not trained',
      {
        ...extrapolation,
        arms: [
          ...extrapolation.arms,
          { name: 'a', of: 'stick-breaking', attention: 'stick-breaking', learningRates: [1] },
        ],
      },
      /Arm 'a' is of 'stick-breaking' and is not trained; give learningRates to 'stick-breaking' instead/,
    ],
  ];
  it.each(cases)('%s', async (name, content, message) => {
    const { code, said } = await run(...studyFile(`wrong ${name}`, content));
    expect(said).toMatch(message);
    expect(
      said
        .trim()
        .split('\n')
        .filter((line) => !line.includes(' on ')),
    ).toHaveLength(1);
    expect(code).toBe(1);
  });

  it('a folder of another study', async () => {
    const output = join(folder, 'other');
    mkdirSync(output);
    writeFileSync(join(output, 'study.json'), '{"study":"mqrar"}');
    const { code, said } = await run(...studyFile('mistaken', { ...extrapolation, output }), '--plan');
    expect(said).toMatch(
      /other holds a study 'mqrar', not 'length-extrapolation'; name another folder with output=FOLDER\.\n$/,
    );
    expect(code).toBe(1);
  });

  it('nothing is made where a file is wrong', async () => {
    await run(...studyFile('untouched', { ...extrapolation, evaluaton: 1 }));
    expect(existsSync(join(folder, 'untouched'))).toBe(false);
  });

  it.each([
    [[], /Missing --config/],
    [['--config', join(folder, 'none.yaml')], /cannot read .*none\.yaml/],
    [['--config', 'x', '--time-limit', '0'], /--time-limit is 0/],
  ])('%j', async (args, message) => {
    const { code, said } = await run(...args);
    expect(said).toMatch(message);
    expect(code).toBe(args.includes('x') || args.length === 0 ? 2 : 1);
  });
});
