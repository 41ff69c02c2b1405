import { expect, it } from 'vitest';
import { drawMatrix } from './matrix.js';

it('leaves a cell empty where nothing is known, and shows one that is 0', () => {
  const labels = { rows: ['a', 'b'], columns: ['x'], rowLabel: 'row', columnLabel: 'column', showValues: true };
  const drawn = drawMatrix({ ...labels, values: [Number.NaN, 0] });
  expect(drawn).not.toContain('NaN');
  expect(drawn.match(/class="sb-cell"/g)).toHaveLength(1);
  expect(drawn).toContain('>0.00<');
});
