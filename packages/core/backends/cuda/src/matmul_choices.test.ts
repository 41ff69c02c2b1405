import { expect, it } from 'vitest';
import { matmulChoices } from './matmul_choices.js';

it('chooses by shape for the library and GPU that were measured, and nothing for others', () => {
  const key = '16384,8192,1536,1536,1536,8192,,,,,false,true,bf16,,false,false';
  const measured = matmulChoices(130100, 'NVIDIA H100 80GB HBM3');
  expect(measured.of(key)).toBe(6);
  expect(measured.of(key.replace('16384', '4096'))).toBeUndefined();
  expect(measured.hash).toMatch(/^[0-9a-f]{8}$/);
  for (const other of [matmulChoices(130000, 'NVIDIA H100 80GB HBM3'), matmulChoices(130100, 'NVIDIA A100')]) {
    expect(other.of(key)).toBeUndefined();
    expect(other.hash).toBe('');
  }
});
