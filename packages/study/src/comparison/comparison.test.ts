/** One's own comparison, tiny, through the command; and what its report makes of numbers made up for it. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { folder, picturesOf, resultsOf, run, sizes, studyFile, text, training } from '../tiny_studies.fixture.js';
import { ComparisonConfigSchema, type ComparisonResult } from './config.js';
import { checkNames, planned } from './plan.js';
import { reportComparison } from './report.js';
import { bootstrapInterval, crossing, isDecided } from './significance.js';

const study = { study: 'comparison', question: 'Which?' };
const evaluation = { times: 2, tokens: 128, during: { everySteps: 2, tokens: 64 } };

describe('sb-study on a comparison', () => {
  it('runs every combination of a grid with the best rate for each seed, and takes arms from another folder', async () => {
    const content = {
      ...{ ...study, text, model: sizes, training, evaluation, seeds: [0, 1] },
      arms: [
        { name: 'RoPE', attention: 'softmax+rope' },
        {
          ...{ name: 'ours', attention: { kind: 'stick-breaking' }, learningRates: [1e-9, 0.003] },
          grid: { 'model.attention.initialReach': [4, [2, 6]] },
          set: { 'training.optimizer.weightDecay': 0, 'model.attention.qkNorm': true },
        },
      ],
      predictions: [{ lower: 'ours, initialReach 4', than: 'RoPE', because: 'it sees more' }],
    };
    const first = await run(...studyFile('elsewhere', content), '--only', 'RoPE|seed 0');
    expect(first.code).toBe(75);
    expect(first.said).toContain('ours, initialReach [2,6], lr 3e-3, seed 0: done');
    const args = studyFile('compared', content);
    const { code, said } = await run(...args, '--from', join(folder, 'elsewhere'));
    expect(said).toContain('elsewhere: 6 arms taken (RoPE, seed 0; ');
    expect(said).not.toContain('other settings');
    expect(said).toContain('6 of 10 arms are done already');
    expect(said).toContain('ours, initialReach 4, lr 3e-3, seed 1: done');
    expect(said.match(/: done in/g)).toHaveLength(2);
    expect(code).toBe(0);
    const { arms, rows, findings, missing } = resultsOf('compared');
    expect(missing).toEqual([]);
    expect(arms).toHaveLength(8);
    expect(rows).toHaveLength(16);
    expect(findings).toHaveLength(1);
    const { validations, trainingSpeed } = arms[1].result;
    expect(validations.map(({ tokens }: { tokens: number }) => tokens)).toEqual([64, 96]);
    expect(validations[0].distance).toHaveLength(sizes.numLayers);
    expect(validations[0].remainder).toHaveLength(sizes.numLayers);
    expect(validations[0].skipped).toEqual([0, 0]); // one tile, which nothing precedes
    expect(trainingSpeed).toBeGreaterThan(0);
    expect(arms[0].result.validations[0].remainder).toBe(undefined);
    expect(picturesOf('compared')).toEqual([
      ...['difference-by-tokens.svg', 'loss-by-length.svg', 'loss-by-position.svg', 'loss-by-tokens.svg'],
      ...['reach-by-tokens.svg', 'skipped-by-tokens.svg'],
    ]);
    const html = readFileSync(join(folder, 'compared/results/report.html'), 'utf8');
    for (const words of [
      'The study expects',
      'Differences from RoPE',
      'remainder, by layer',
      'tiles skipped (%), by layer',
      'minutes in all',
      '(kept)',
    ])
      expect(html).toContain(words);
  });

  it('scores models on tasks of sb-eval, each a column, and says before training what is missing', async () => {
    const rows = ['stone', 'river', 'cloud', 'candle'].map((thing, i) => ({
      ...{ id: `${i}`, question: `What is a ${thing} made of?`, answerKey: 'ABC'[i % 3] },
      choices: { text: ['earth', 'water or air', 'air'], label: ['A', 'B', 'C'] },
    }));
    const dataDir = join(folder, 'task data');
    mkdirSync(join(dataDir, 'allenai/ai2_arc/ARC-Easy'), { recursive: true });
    const file = join(dataDir, 'allenai/ai2_arc/ARC-Easy/test.jsonl');
    writeFileSync(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    const content = {
      ...{ ...study, text, model: sizes, training, seeds: [0, 1] },
      evaluation: { times: 1, tokens: 64, tasks: ['arc_easy'], dataDir, limit: 3 },
      arms: [{ name: 'RoPE', attention: 'softmax+rope' }],
    };
    const { code } = await run(...studyFile('scored', content));
    expect(code).toBe(0);
    const { arms, rows: table } = resultsOf('scored');
    const [{ scores }] = arms.map(({ result }: { result: ComparisonResult }) => result);
    expect(scores.map(({ task, metric }: { task: string; metric: string }) => `${task} ${metric}`)).toEqual([
      'arc_easy acc',
      'arc_easy acc_norm',
    ]);
    expect(table[0]['arc_easy acc']).toBe(scores[0].value);
    expect([0, 1 / 3, 2 / 3, 1]).toContain(scores[0].value);
    expect(readFileSync(join(folder, 'scored/results/report.html'), 'utf8')).toContain('arc_easy acc_norm');
    // Where the data lies is no part of what an arm is.
    cpSync(dataDir, join(folder, 'moved'), { recursive: true });
    const moved = await run(
      ...studyFile('scored', { ...content, evaluation: { ...content.evaluation, dataDir: join(folder, 'moved') } }),
    );
    expect(moved.said).toContain('2 of 2 arms are done already');
    const missing = await run(
      ...studyFile('unscored', { ...content, evaluation: { ...content.evaluation, tasks: 'sciq' } }),
    );
    expect(missing.code).not.toBe(0);
    expect(missing.said).toMatch(/sciq/);
    expect(
      readdirSync(join(folder, 'unscored/arms')).some((arm) => existsSync(join(folder, 'unscored/arms', arm, 'run'))),
    ).toBe(false);
  });

  it('trains on tokens that were made elsewhere', async () => {
    const base = { ...study, model: sizes, training, evaluation: { times: 2, tokens: 128 } };
    const arms = [{ name: 'one', attention: 'stick-breaking' }];
    const made = await run(...studyFile('made', { ...base, text, arms }));
    expect(made.code).toBe(0);
    const names = readdirSync(text.folder);
    const tokens = join(folder, 'moved');
    cpSync(join(text.folder, names.find((name) => name.startsWith('tokens-'))!), tokens, { recursive: true });
    const tokenizer = join(text.folder, names.find((name) => /^tokenizer-.*\.json$/.test(name))!);
    const moved = { heldOut: text.heldOut, vocabSize: text.vocabSize, tokens: [tokens], tokenizer };
    const again = await run(...studyFile('again', { ...base, text: moved, arms }));
    expect(again.code).toBe(0);
    const losses = (name: string) => resultsOf(name).arms[0].result.losses;
    expect(losses('again')).toEqual(losses('made'));
    const without = await run(...studyFile('without', { ...base, text: { ...moved, tokenizer: undefined }, arms }));
    expect(without.said).toContain('expected the tokenizer that tokens were made with');
  });

  it.each([
    [{ set: { 'training.optimzer.weightDecay': 1 } }, /Arm 'one': training: Unrecognized key: "optimzer"/],
    [{ set: { 'optimizer.weightDecay': 1 } }, /'optimizer\.weightDecay' is no key of model or training/],
    [{ set: { 'model.hiddenSize.deep': 1 } }, /Arm 'one': model\.hiddenSize\.deep: 'hiddenSize' has no keys/],
    [{ grid: { 'model.hiddenSize': [] } }, /grid/],
    [{ grid: { 'model.hiddenSize': [16, 16] } }, /two arms are called 'one, hiddenSize 16, seed 0'/],
  ])('refuses %j', async (changed, message) => {
    const arms = [{ name: 'one', ...changed }];
    const content = { ...study, text, model: sizes, training, evaluation, arms };
    const { code, said } = await run(...studyFile('refused', content), '--plan');
    expect(said).toMatch(message);
    expect(code).toBe(1);
  });

  it('takes a key out where it is set to null, as for experts in place of one layer', () => {
    const set = { 'model.intermediateSize': null, 'model.experts': { count: 4, active: 2, intermediateSize: 6 } };
    const arms = [{ name: 'dense' }, { name: 'experts', set }];
    const config = ComparisonConfigSchema.parse({
      ...study,
      text,
      model: sizes,
      training,
      evaluation,
      arms,
      output: 'x',
    });
    const [dense, experts] = planned(config).map(({ variant }) => variant.model);
    expect(dense).toMatchObject({ intermediateSize: sizes.intermediateSize });
    expect(experts).not.toHaveProperty('intermediateSize');
    expect(experts!.experts).toMatchObject({ count: 4, balance: 0.01 });
  });

  it('says of arms that another folder has under other settings what differs, and takes none', async () => {
    const content = { ...study, text, model: sizes, training, evaluation: { times: 2, tokens: 64 } };
    const arms = [{ name: 'one' }];
    expect((await run(...studyFile('there', { ...content, arms }))).code).toBe(0);
    const set = { 'training.optimizer.weightDecay': 0 };
    const here = studyFile('here', { ...content, arms: [{ name: 'one', set }] });
    const { said, code } = await run(...here, '--plan', '--from', join(folder, 'there'));
    expect(said).toContain('there: 0 arms taken');
    expect(said).toContain(
      'there: left there, since they were run with other settings: one, seed 0 (training.optimizer.weightDecay)',
    );
    expect(said).toContain('one, seed 0: to be run');
    expect(code).toBe(0);
  });

  it('refuses folders of no study, and names of no arm', async () => {
    const content = { ...study, text, model: sizes, training, evaluation, arms: [{ name: 'one' }] };
    const from = await run(...studyFile('nothing', content), '--plan', '--from', join(folder, 'none'));
    expect(from.said).toContain('none has no study.json');
    const config = ComparisonConfigSchema.parse({ ...content, output: 'x', baseline: 'two' });
    expect(() => checkNames(config)).toThrow("baseline is 'two', and no arm is called that; there are one.");
  });
});

describe('the report of a comparison', () => {
  const losses: Record<string, number[][]> = { a: [[3, 2.9], [3.02, 2.91]], b: [[3.1, 2.8], [3.12, 2.95]] }; // biome-ignore format: seeds by arm
  const verdictOn = (prediction: object, seeds = [0, 1]) => {
    const config = ComparisonConfigSchema.parse({
      ...{ ...study, output: 'none', model: sizes, training, evaluation, seeds, predictions: [prediction] },
      arms: Object.keys(losses).map((name) => ({ name })),
    });
    const results = planned(config).map(({ id, arm, seed }) => {
      const lengths = losses[arm.id]![seed]!.map((nll, i) => ({ length: 16 * 2 ** i, nll }));
      return [id, { lengths, byPosition: [], losses: [] } as unknown as ComparisonResult] as const;
    });
    return reportComparison(config, new Map(results)).findings[0];
  };

  it('sets predictions beside what was found: decided where all seeds say the same', () => {
    expect(verdictOn({ lower: 'a', than: 'b' })?.verdict).toBe('agrees');
    expect(verdictOn({ lower: 'b', than: 'a' })?.verdict).toBe('disagrees');
    expect(verdictOn({ lower: 'b', than: 'a', at: 32 })?.verdict).toBe('open'); // −0.1 and +0.04
    expect(verdictOn({ lower: 'a', than: 'b' }, [0])?.verdict).toBe('open'); // one seed decides nothing
    expect(verdictOn({ lower: 'a', than: 'b' })?.found).toContain('−0.1000 (−0.1000 to −0.1000)');
    expect(verdictOn({ lower: 'a', than: 'b', at: 512 })).toBe(undefined);
  });
});

describe('where one arm passes another', () => {
  it('is told of equal seeds: what one seed more has does not count', () => {
    const config = ComparisonConfigSchema.parse({
      ...{ ...study, output: 'none', model: sizes, training, evaluation, seeds: [0, 1] },
      arms: [{ name: 'a' }, { name: 'b' }],
    });
    const by: Record<string, number[]> = { 'a, seed 0': [5, 4, 3], 'a, seed 1': [9, 9, 9], 'b, seed 0': [6, 5, 2] };
    const results = Object.entries(by).map(([id, losses]) => {
      const validations = losses.map((loss, i) => ({ tokens: 1e6 * (i + 1), loss, distance: [] }));
      const lengths = [{ length: 16, nll: losses.at(-1) }];
      return [id, { lengths, byPosition: [], losses: [], validations } as unknown as ComparisonResult] as const;
    });
    const { blocks } = reportComparison(config, new Map(results));
    expect(blocks).toContainEqual({
      ...{ kind: 'table', columns: ['passes below a for good', 'tokens seen'] },
      rows: [['b', '2.0 million to 3.0 million']],
    });
    const differences = blocks.find((block) => 'name' in block && block.name === 'difference-by-tokens');
    const points = [1, 1, -1].map((y, i) => ({ x: 1e6 * (i + 1), y }));
    expect(differences).toMatchObject({ curves: [{ name: 'b', points }], yDomain: [-1.2, 1.2] });
  });
});

describe('what seeds say', () => {
  it('bootstraps the mean: of two it reaches from the one to the other, of many it narrows', () => {
    expect(bootstrapInterval([0.1, 0.3])).toMatchObject({ low: 0.1, high: 0.3, seeds: 2 });
    const many = bootstrapInterval(Array.from({ length: 100 }, (_, i) => (i % 10) / 10));
    // The mean of 100 numbers of standard deviation 0.287 has one of 0.0287.
    expect(many.low).toBeCloseTo(0.45 - 1.96 * 0.0287, 2);
    expect(many.high).toBeCloseTo(0.45 + 1.96 * 0.0287, 2);
    expect(isDecided(many)).toBe(true);
    expect(isDecided(bootstrapInterval([0.1, -0.2]))).toBe(false);
  });

  it('finds where a curve falls below 0 for good', () => {
    const curve = (...values: number[]) => values.map((y, i) => ({ x: 10 * (i + 1), y }));
    expect(crossing(curve(1, -1, 1, -1))).toEqual({ from: 30, to: 40 });
    expect(crossing(curve(1, 1))).toBe(undefined);
    expect(crossing(curve(-1, -1))).toBe(undefined);
  });
});
