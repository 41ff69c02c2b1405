import { IMPLIED_BY_MODEL, parseConfig } from '@stickbreaking/model';
import { describe, expect, it } from 'vitest';
import { checkIdentity, firstDifference, type Identity, identityOf } from './identity.js';
import { saidModel } from './implied.js';
import { OptimizerSchema } from './optimizer.js';
import { placeStages, type TrainStage } from './stage.js';

const model = parseConfig({ vocabSize: 8, hiddenSize: 8, intermediateSize: 8, numLayers: 1, numHeads: 1 });
const data = { open: () => ({ next: () => ({ tokens: [], targets: [], cuSeqlens: [0] }), cursor: () => null }) };
const stage = (rest: Partial<TrainStage> = {}): TrainStage => ({
  ...{ schedule: { kind: 'constant', peak: 0.1 }, steps: 4, contextLength: 8, batchTokens: 16, microBatchTokens: 16 },
  ...{ data: { ...data, identity: { shards: 'abc' } } },
  ...rest,
});

function identity(stages: TrainStage[], { seed = 0, beta1 = 0.9, extra = {} } = {}) {
  return identityOf({ model, seed, optimizer: OptimizerSchema.parse({ beta1 }) }, placeStages(stages), extra);
}

const cosine = (steps: number) => stage({ steps, schedule: { kind: 'cosine', peak: 0.1 } });
const first = { stage: 0, stageStep: 2 };

describe('a checkpoint goes on', () => {
  it.each([
    ['with the same', [stage()], [stage()], first],
    ['with another name of a stage', [stage()], [stage({ name: 'other' })], first],
    ['before its first step with other stages', [stage()], [cosine(9)], { stage: 0, stageStep: 0 }],
    ['with a later stage changed', [stage(), stage()], [stage(), cosine(9)], { stage: 1, stageStep: 0 }],
    ['with a stage more', [stage()], [stage(), cosine(9)], { stage: 1, stageStep: 0 }],
    ['with an open end moved out', [stage()], [stage({ steps: 9 })], first],
    ['with an open end moved in to where it stands', [stage()], [stage({ steps: 2 })], first],
    ['with a finished stage of an open end made longer', [stage()], [stage({ steps: 5 })], { stage: 1, stageStep: 0 }],
  ])('%s', (_, saved, now, position) => {
    expect(() => checkIdentity(identity(saved), identity(now), position, 'here')).not.toThrow();
  });

  it('that does not yet say what data it read', () => {
    const old = identity([stage()]);
    delete old.stages[0]!.data;
    expect(() => checkIdentity(old, identity([stage()]), first, 'here')).not.toThrow();
  });
});

describe('a checkpoint does not go on', () => {
  it.each([
    ['behind a new end', [stage()], [stage({ steps: 1 })], first, 'stages.0.steps was 4 and is 1 now'],
    ['with a closed end moved', [cosine(4)], [cosine(9)], first, 'stages.0.steps was 4 and is 9 now'],
    [
      'with a finished stage made shorter',
      [stage(), stage()],
      [stage({ steps: 3 }), stage()],
      { stage: 1, stageStep: 0 },
      'stages.0.steps was 4 and is 3 now',
    ],
    [
      'with an earlier stage made longer',
      [stage(), stage()],
      [stage({ steps: 5 }), stage()],
      { stage: 1, stageStep: 1 },
      'stages.0.steps was 4 and is 5 now',
    ],
    [
      'with other data',
      [stage()],
      [stage({ data: { ...data, identity: { shards: 'xyz' } } })],
      first,
      'stages.0.data.shards was "abc" and is "xyz" now',
    ],
  ])('%s', (_, saved, now, position, message) => {
    expect(() => checkIdentity(identity(saved), identity(now), position, 'here')).toThrow(message);
  });

  it.each([
    [{ seed: 1 }, 'seed was 0 and is 1 now'],
    [{ beta1: 0.5 }, 'optimizer.beta1 was 0.9 and is 0.5 now'],
    [{ extra: { tokenizer: 'x' } }, 'tokenizer was not set and is "x" now'],
  ])('with %j', (change, message) => {
    const check = () => checkIdentity(identity([stage()]), identity([stage()], change), first, 'runs/here');
    expect(check).toThrow(`The checkpoint runs/here is of another configuration: ${message}; change it back`);
  });
});

/** Every key that may be left out: what that says, and another value. */
const left: [path: string, implied: unknown, other: unknown][] = [
  ['precision', 'default', 'fp8'],
  ['residualType', 'bfloat16', 'fp24'],
  ['parallel.reduceType', 'float32', 'bfloat16'],
  ['optimizer.momentType', 'float32', 'bfloat16'],
  ['stages.0.schedule.warmupTokens', 0, 16],
  ['stages.0.schedule.warmupSteps', 0, 1],
  ['model.normPlacement', 'before', 'after'],
  ['model.attention.qkNorm', false, true],
  ['model.attention.sink', false, true],
  ['model.attention.position.rotaryFraction', 1, 0.5],
  ['model.experts.balanceOver', 'microBatch', 'step'],
];

describe.each(left)('%s left out', (path, implied, other) => {
  const having = (value: unknown): Identity => {
    const all = identity([stage()]);
    all.model = {
      ...all.model,
      experts: { count: 2 },
      attention: { kind: 'softmax', position: { kind: 'rope' } },
    } as never;
    const keys = path.split('.');
    const last = keys.pop()!;
    if (value === undefined) return all;
    let section: Record<string, unknown> = all;
    for (const key of keys) {
      section[key] ??= {};
      section = section[key] as Record<string, unknown>;
    }
    section[last] = value;
    return all;
  };
  const check = (saved: unknown, now: unknown) => () => checkIdentity(having(saved), having(now), first, 'here');

  it(`says ${JSON.stringify(implied)}`, () => {
    expect(check(undefined, implied)).not.toThrow();
    expect(check(implied, undefined)).not.toThrow();
  });

  it('is named as that where it differs', () => {
    expect(check(undefined, other)).toThrow(
      `${path} was ${JSON.stringify(implied)} and is ${JSON.stringify(other)} now`,
    );
    expect(check(other, undefined)).toThrow(
      `${path} was ${JSON.stringify(other)} and is ${JSON.stringify(implied)} now`,
    );
  });
});

it('keys that a model may leave out are ones that it has', () => {
  const rope = { kind: 'softmax', sink: false, qkNorm: false, position: { kind: 'rope', rotaryFraction: 1 } } as const;
  const experts = { count: 2, active: 1, intermediateSize: 8, balanceOver: 'microBatch' } as const;
  const { intermediateSize: _, ...rest } = model;
  const full = parseConfig({ ...rest, experts, normPlacement: 'before', attention: rope });
  const bare = parseConfig({
    ...rest,
    experts: { count: 2, active: 1, intermediateSize: 8 },
    attention: { kind: 'softmax', position: { kind: 'rope' } },
  });
  expect(saidModel(bare)).toEqual(saidModel(full));
  for (const path of Object.keys(IMPLIED_BY_MODEL)) expect(left.map(([key]) => key)).toContain(`model.${path}`);
});

it('the first difference is found at its depth', () => {
  expect(firstDifference({ a: 1, b: { c: [1, 2] } }, { a: 1, b: { c: [1, 2] } })).toBe(undefined);
  const found = firstDifference({ a: 1, b: { c: [1, 2], d: 1 } }, { a: 1, b: { c: [1, 3], d: 2 } });
  expect(found).toEqual({ path: 'b.c.1', before: 2, after: 3 });
  expect(firstDifference({ a: null }, { a: {} })).toEqual({ path: 'a', before: null, after: {} });
  expect(firstDifference({}, { a: 0 }, ['x'])).toEqual({ path: 'x.a', before: undefined, after: 0 });
});
