/**
 * What each study concludes from results made up for it: a table of losses, shares of right answers or speeds, and the
 * verdict on each of the paper's statements. The arms are shown under other names than their ids.
 */
import type { Finding } from '@stickbreaking/eval';
import { describe, expect, it } from 'vitest';
import { ExtensionConfigSchema } from './extension/config.js';
import * as extension from './extension/plan.js';
import { reportExtension } from './extension/report.js';
import { ExtrapolationConfigSchema } from './extrapolation/config.js';
import * as extrapolation from './extrapolation/plan.js';
import { reportExtrapolation } from './extrapolation/report.js';
import { MqrarConfigSchema } from './mqrar/config.js';
import * as mqrar from './mqrar/plan.js';
import { reportMqrar } from './mqrar/report.js';
import type { MqrarResult } from './mqrar/run.js';
import { SpeedConfigSchema } from './speed/config.js';
import { SKIPPING, type SpeedResult, speedId } from './speed/plan.js';
import { reportSpeed } from './speed/report.js';
import type { TextEvaluation } from './text/evaluate.js';

type Verdict = Finding['verdict'];

const model = { hiddenSize: 16, intermediateSize: 24, numLayers: 2, numHeads: 1 };
const training = {
  contextLength: 16,
  batchTokens: 32,
  stages: [{ steps: 3, schedule: { kind: 'constant', peak: 0.003 } }],
};
const arm = (id: string) => ({ id, name: `the arm ${id.length}`, attention: 'stick-breaking' });

/** Losses at 16, 32, 64, … tokens. */
const evaluated = (losses: readonly number[]) =>
  ({ lengths: losses.map((nll, i) => ({ length: 16 * 2 ** i, nll })), byPosition: [] }) as unknown as TextEvaluation;

/** The verdicts by the beginning of what is expected. */
function verdictOn(findings: readonly Finding[], statement: string): Verdict | undefined {
  const about = findings.filter(({ expected }) => expected.startsWith(statement));
  expect(about.length).toBeLessThanOrEqual(1);
  return about[0]?.verdict;
}

describe('length extrapolation', () => {
  const findingsFrom = (losses: Record<string, number[]>) => {
    const config = ExtrapolationConfigSchema.parse({
      ...{ study: 'length-extrapolation', output: 'none', model, training, evaluation: { times: 4 } },
      arms: Object.keys(losses).map(arm),
    });
    const results = extrapolation.planned(config).map((one) => [one.id, evaluated(losses[one.arm.id]!)] as const);
    return reportExtrapolation(config, new Map(results)).findings;
  };
  const falls = [3, 2.9, 2.8];
  const rises = [3, 3.2, 3.4];
  const stays = [3, 3, 3];
  const cases: [string, Record<string, number[]>, Verdict | undefined][] = [
    ['Stick-breaking’s loss keeps falling', { 'stick-breaking': falls }, 'agrees'],
    ['Stick-breaking’s loss keeps falling', { 'stick-breaking': rises }, 'disagrees'],
    ['Stick-breaking’s loss keeps falling', { 'stick-breaking': stays }, 'disagrees'],
    ['Stick-breaking’s loss keeps falling', { 'stick-breaking': [3, 3.1, 2.8] }, 'disagrees'],
    ['Stick-breaking’s loss keeps falling', { RoPE: falls }, undefined],
    ['At the longest context', { 'stick-breaking': falls, RoPE: stays }, 'agrees'],
    ['At the longest context', { 'stick-breaking': stays, RoPE: falls }, 'disagrees'],
    ['At the longest context', { 'stick-breaking': falls }, undefined],
    ['Stick-breaking alone keeps', { 'stick-breaking': falls, RoPE: rises }, 'agrees'],
    ['Stick-breaking alone keeps', { 'stick-breaking': falls, RoPE: rises, 'window L': falls }, 'agrees'],
    ['Stick-breaking alone keeps', { 'stick-breaking': falls, RoPE: falls }, 'disagrees'],
    ['Stick-breaking alone keeps', { 'stick-breaking': rises, RoPE: rises }, 'disagrees'],
    ['RoPE alone does not', { RoPE: rises }, 'agrees'],
    ['RoPE alone does not', { RoPE: stays }, 'disagrees'],
    ['RoPE alone does not', { RoPE: falls }, 'disagrees'],
    ['RoPE scaling', { RoPE: rises, 'RoPE, dynamic NTK': [3, 3.1, 3.2] }, 'agrees'],
    ['RoPE scaling', { RoPE: [3, 3.1, 3.2], 'RoPE, dynamic NTK': rises }, 'disagrees'],
    ['RoPE scaling', { RoPE: rises, 'RoPE, dynamic NTK': falls }, 'disagrees'],
    ['NoPE’s loss rises', { NoPE: rises }, 'agrees'],
    ['NoPE’s loss rises', { NoPE: falls }, 'disagrees'],
    ['ALiBi does better', { ALiBi: stays, FIRE: rises }, 'agrees'],
    ['ALiBi does better', { ALiBi: rises, FIRE: stays }, 'disagrees'],
    ['A window keeps', { RoPE: rises, 'window L': [3, 3.02, 3.05] }, 'agrees'],
    ['A window keeps', { RoPE: rises, 'window L': rises }, 'disagrees'],
    ['A window keeps', { RoPE: [3, 3.01, 3.06], 'window L': [3, 3.02, 3.05] }, 'disagrees'],
    ['A window keeps', { RoPE: rises, 'window L': stays, 'window L/2': rises }, 'disagrees'],
    ['Of the windows', { 'window L/4': rises, 'window L/2': falls.map((x) => x - 1), 'window L': [2, 2, 2] }, 'agrees'],
    ['Of the windows', { 'window L/4': [2, 2, 2], 'window L/2': falls, 'window L': falls }, 'disagrees'],
    ['Of the windows', { 'window L/4': [3, 3, 3], 'window L/2': [2, 2, 2], 'window L': [4, 4, 4] }, 'disagrees'],
  ];
  it.each(cases)('%s: %j is %s', (statement, losses, verdict) => {
    expect(verdictOn(findingsFrom(losses), statement)).toBe(verdict);
  });

  it('speaks of arms by their names', () => {
    const [first] = findingsFrom({ RoPE: rises });
    expect(first!.found).toBe('the arm 4 goes from 3.000 at the training length to 3.400 at 4 times it.');
  });
});

describe('context extension', () => {
  type Losses = Record<string, Partial<Record<extension.Phase, number[]>>>;
  /** @param later how much higher than the first seed's the losses of stick-breaking's second seed are, if there is one */
  const findingsFrom = (losses: Losses, times = 4, later?: number) => {
    const extended = 'softmax+rope';
    const config = ExtensionConfigSchema.parse({
      ...{ study: 'context-extension', output: 'none', model, training, evaluation: { times } },
      seeds: later === undefined ? [0] : [0, 1],
      extension: { factor: 2, steps: 3, batchTokens: 64 },
      arms: Object.entries(losses).map(([id, by]) => ({ ...arm(id), ...('before, scaled' in by ? { extended } : {}) })),
    });
    const results = extension.planned(config).flatMap(({ id, arm, phase, seed }) => {
      const own = losses[arm.id]![phase];
      const more = seed === 1 && arm.id === 'stick-breaking' ? later! : 0;
      return own ? [[id, evaluated(own.map((nll) => nll + more))] as const] : [];
    });
    return reportExtension(config, new Map(results)).findings;
  };
  const stick = (after: number[]): Losses => ({ 'stick-breaking': { before: [3, 3, 3], after } });
  const rope = (before: number[], scaled: number[], after: number[]): Losses => ({
    RoPE: { before, 'before, scaled': scaled, after },
  });
  const [spikes, somewhat, better] = [
    [3, 5, 7],
    [3, 3.5, 6],
    [3, 2.9, 4],
  ];
  // Lengths: the training length, the extended context, and one beyond.
  const cases: [string, Losses, Verdict | undefined][] = [
    ['After the extension', stick([3, 2.9, 2.8]), 'agrees'],
    ['After the extension', stick([3, 2.7, 2.8]), 'disagrees'],
    ['After the extension', rope(spikes, somewhat, better), undefined],
    ['Softmax+RoPE improves', rope(spikes, somewhat, better), 'agrees'],
    ['Softmax+RoPE improves', rope(spikes, [3, 2.8, 6], better), 'disagrees'],
    ['Softmax+RoPE improves', rope(spikes, somewhat, [3, 2.9, 2.8]), 'disagrees'],
    ['Softmax+RoPE improves', { RoPE: { before: spikes, after: better } }, 'agrees'],
    ['Softmax+RoPE improves', { RoPE: { before: [3, 2.8, 9], after: better } }, 'disagrees'],
    ['Before it, RoPE scaling', rope(spikes, somewhat, better), 'agrees'],
    ['Before it, RoPE scaling', rope(somewhat, [3, 3.6, 6], better), 'disagrees'],
    ['Before it, RoPE scaling', rope(spikes, [3, 3.5, 3.4], better), 'disagrees'],
    ['At the longest context', { ...stick([3, 2.9, 2.8]), ...rope(spikes, somewhat, better) }, 'agrees'],
    ['At the longest context', { ...stick([3, 2.9, 5]), ...rope(spikes, somewhat, better) }, 'disagrees'],
  ];
  it.each(cases)('%s: %j is %s', (statement, losses, verdict) => {
    expect(verdictOn(findingsFrom(losses), statement)).toBe(verdict);
  });

  it('leaves open what the seeds disagree about', () => {
    const both = { ...stick([3, 2.9, 2.8]), ...rope(spikes, somewhat, better) };
    expect(verdictOn(findingsFrom(both, 4, 1), 'At the longest context')).toBe('agrees');
    expect(verdictOn(findingsFrom(both, 4, 2), 'At the longest context')).toBe('open');
  });

  it('says nothing where nothing lies beyond the extended context', () => {
    expect(findingsFrom(stick([3, 2.9, 2.8]), 2)).toEqual([]);
  });
});

describe('MQRAR', () => {
  const configOf = (pairs: number[], sequenceLength: number, example = false) => {
    const steps = { steps: 100, sequences: 2, warmupSteps: 1 };
    const arms = ['stick-breaking', 'softmax+RoPE'];
    return MqrarConfigSchema.parse({
      ...{ study: 'mqrar', output: 'none', model, training: steps, pairs, learningRates: [0.001] },
      task: { sequenceLength, variables: 200, values: 10 },
      arms: arms.map(arm),
      ...(example
        ? { example: { pairs: 4, sequenceLength: 20, learningRates: [0.001], model, training: steps, arms } }
        : {}),
    });
  };
  const result = (accuracy: number): MqrarResult => ({
    ...{ parameters: 1, accuracy, steps: 1, tokens: 1, checks: [], losses: [] },
  });
  /** Shares of right answers by arm and pairs; what is left out has not been run. */
  const findingsFrom = (shares: Record<string, Record<number, number>>, sequenceLength = 768, all = [64, 128, 192]) => {
    const config = configOf(all, sequenceLength);
    const results = mqrar.sweep(config).flatMap(({ id, arm, pairs }) => {
      const accuracy = shares[arm]?.[pairs];
      return accuracy === undefined ? [] : [[id, result(accuracy)] as const];
    });
    return reportMqrar(config, new Map(results)).findings;
  };
  const [all, upTo128, upTo64] = [
    { 64: 1, 128: 0.99, 192: 0.995 },
    { 64: 1, 128: 1, 192: 0.98 },
    { 64: 1, 128: 0.5, 192: 0.1 },
  ];
  const both = (stick: Record<number, number>, rope: Record<number, number>) => ({
    'stick-breaking': stick,
    'softmax+RoPE': rope,
  });
  const paperCases: [string, Record<string, Record<number, number>>, Verdict | undefined][] = [
    ['Stick-breaking handles', both(all, upTo128), 'agrees'],
    ['Stick-breaking handles', both(upTo128, all), 'disagrees'],
    ['Stick-breaking handles', both({ 64: 0.5, 128: 1, 192: 1 }, all), 'disagrees'],
    ['Stick-breaking handles', both({ 64: 1, 128: 1 }, upTo128), 'open'],
    ['Stick-breaking handles', { 'stick-breaking': all }, undefined],
    ['Softmax+RoPE handles', both(all, upTo128), 'agrees'],
    ['Softmax+RoPE handles', both(all, upTo64), 'disagrees'],
    ['Softmax+RoPE handles', both(all, all), 'disagrees'],
    ['Softmax+RoPE handles', both(all, { 64: 1, 128: 1 }), 'open'],
  ];
  it.each(paperCases)('at the paper’s size, %s: %j is %s', (statement, shares, verdict) => {
    expect(verdictOn(findingsFrom(shares), statement)).toBe(verdict);
  });
  const smallCases: [Record<string, Record<number, number>>, Verdict][] = [
    [both(all, upTo128), 'agrees'],
    [both(upTo128, upTo128), 'disagrees'],
    [both(upTo64, all), 'disagrees'],
    [both({ 64: 1 }, { 64: 0.5 }), 'open'],
  ];
  it.each(smallCases)('at a smaller size: %j is %s', (shares, verdict) => {
    expect(verdictOn(findingsFrom(shares, 700), 'Stick-breaking keeps more pairs')).toBe(verdict);
  });

  /** Weight on the present value and on older ones, wrong answers of four, and the share of right ones. */
  interface Seen {
    answer: number;
    older: number;
    wrong: number;
    accuracy: number;
  }
  const exampleFindings = (stick: Seen, rope: Seen) => {
    const config = configOf([64], 768, true);
    const looked = ({ answer, older, wrong, accuracy }: Seen): MqrarResult => ({
      ...result(accuracy),
      example: {
        ...{ labels: [], maps: [] },
        questions: Array.from({ length: 4 }, (_, i) => ({
          ...{ position: i, answerPosition: 0, expected: '1', answered: i < wrong ? '2' : '1' },
        })),
        // The layer that looks at the answer is the one that counts.
        retrieval: [
          { layer: 0, head: 0, answer: answer / 100, older: 1 },
          { layer: 1, head: 0, answer, older },
        ],
      },
    });
    const results = mqrar
      .examples(config)
      .map(({ id, arm }) => [id, looked(arm === 'stick-breaking' ? stick : rope)] as const);
    return reportMqrar(config, new Map(results)).findings;
  };
  const good = { answer: 0.9, older: 0.01, wrong: 0, accuracy: 1 };
  const distracted = { answer: 0.6, older: 0.2, wrong: 0, accuracy: 0.9 };
  const exampleCases: [string, Seen, Seen, Verdict][] = [
    ['With stick-breaking', good, distracted, 'agrees'],
    ['With stick-breaking', distracted, good, 'disagrees'],
    ['With stick-breaking', { ...good, wrong: 1 }, distracted, 'disagrees'],
    ['With stick-breaking', { ...good, answer: 0.4 }, distracted, 'disagrees'],
    ['Softmax+RoPE is distracted', good, distracted, 'agrees'],
    ['Softmax+RoPE is distracted', good, { ...good, wrong: 1 }, 'agrees'],
    ['Softmax+RoPE is distracted', distracted, good, 'disagrees'],
    ['Softmax+RoPE is distracted', good, { ...distracted, accuracy: 0.4 }, 'open'],
  ];
  it.each(exampleCases)('on the example, %s: %j and %j is %s', (statement, stick, rope, verdict) => {
    expect(verdictOn(exampleFindings(stick, rope), statement)).toBe(verdict);
  });
});

describe('speed', () => {
  interface Step {
    tokensPerSecond: number;
    gib: number;
  }
  const findingsFrom = (steps: Record<string, Record<number, Step>>, skipped?: number) => {
    const config = SpeedConfigSchema.parse({
      ...{ study: 'speed', output: 'none', model, vocabSize: 64, lengths: [512, 4096, 16384], tokens: 8192 },
      arms: ['stick-breaking', 'softmax+RoPE'].map(arm),
    });
    const results = new Map<string, SpeedResult>();
    for (const [id, byLength] of Object.entries(steps)) {
      for (const [length, { tokensPerSecond, gib }] of Object.entries(byLength)) {
        const measured = { tokensPerSecond, peakBytes: gib * 2 ** 30, peakOf: 'device', tokens: 1 } as const;
        results.set(speedId(id, Number(length)), measured);
      }
    }
    if (skipped !== undefined) {
      const heads = [skipped - 0.01, skipped + 0.01].map((share, head) => ({
        ...{ layer: 0, head, skipped: [share, 0], byDistance: [1], remainder: 0 },
      }));
      results.set(SKIPPING, { length: 4096, windows: 1, tile: 64, thresholds: [2 ** -9, 2 ** -25], heads });
    }
    return reportSpeed(config, results).findings;
  };
  const at4096 = (stick: number, rope: number) => ({
    'stick-breaking': { 512: { tokensPerSecond: 1, gib: 1 }, 4096: { tokensPerSecond: stick, gib: 1 } },
    'softmax+RoPE': { 512: { tokensPerSecond: 1, gib: 1 }, 4096: { tokensPerSecond: rope, gib: 1 } },
  });
  const memory = (short: number, long: number) => ({
    // 16,384 tokens are more than a step of the other lengths has: not to be compared.
    'stick-breaking': {
      512: { tokensPerSecond: 1, gib: short },
      4096: { tokensPerSecond: 1, gib: long },
      16384: { tokensPerSecond: 1, gib: 100 },
    },
  });
  const cases: [string, Record<string, Record<number, Step>>, number | undefined, Verdict | undefined][] = [
    ['Training with stick-breaking', at4096(0.71, 1), undefined, 'agrees'],
    ['Training with stick-breaking', at4096(0.5, 1), undefined, 'disagrees'],
    ['Training with stick-breaking', at4096(1, 0.71), undefined, 'disagrees'],
    ['Training with stick-breaking', memory(1, 1), undefined, undefined],
    ['Memory is linear', memory(1, 1.1), undefined, 'agrees'],
    ['Memory is linear', memory(1, 2), undefined, 'disagrees'],
    ['Memory is linear', memory(2, 1), undefined, 'agrees'],
    ['Block skipping saves', {}, 0.2, 'agrees'],
    ['Block skipping saves', {}, 0.02, 'disagrees'],
    ['Block skipping saves', {}, undefined, undefined],
  ];
  it.each(cases)('%s: %j, %s left out, is %s', (statement, steps, skipped, verdict) => {
    expect(verdictOn(findingsFrom(steps, skipped), statement)).toBe(verdict);
  });
});
