import { expect, it } from 'vitest';
import { compareConfigs } from './differences.js';

it('compares configurations key by key', () => {
  const rows = compareConfigs([
    { seed: 0, model: { attention: { kind: 'softmax' }, layers: 2 }, stages: [{ steps: 5 }], empty: [] },
    { seed: 0, model: { attention: { kind: 'stick-breaking' } }, stages: [{ steps: 5 }, { steps: 6 }] },
  ]);
  expect(rows.filter(({ differs }) => differs)).toEqual([
    { key: 'model.attention.kind', values: ['softmax', 'stick-breaking'], differs: true },
    { key: 'model.layers', values: ['2', undefined], differs: true },
    { key: 'empty', values: ['[]', undefined], differs: true },
    { key: 'stages.1.steps', values: [undefined, '6'], differs: true },
  ]);
  expect(rows.filter(({ differs }) => !differs).map(({ key }) => key)).toEqual(['seed', 'stages.0.steps']);
});

it('takes a run that says nothing', () => {
  expect(compareConfigs([undefined, { seed: 1 }])).toEqual([{ key: 'seed', values: [undefined, '1'], differs: true }]);
});
