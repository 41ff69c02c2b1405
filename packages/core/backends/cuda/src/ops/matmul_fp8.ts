/** The matmuls of a layer with operands in eight bits (../fp8.ts); what cannot be done so is left to matmul.ts. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { canBeEight, eightWeight, quantizeRows, takeEight } from '../fp8.js';
import { copiesBelow, makeBeside, makeMatrix, matrixOf, operandOf } from '../matrix.js';
import type { Matrix } from '../rows.js';
import type { Eight } from '../storage.js';

/** cuBLASLt wants so many numbers of the result in a row. */
const RESULT_MULTIPLE = 16;

/** C [m,n] = A·Bᵀ, both by rows. */
function multiply(backend: CudaBackend, m: number, n: number, a: Eight, b: Eight, c: number, ldc = n): void {
  backend.matmul(a.address, b.address, c, {
    ...{ m, n, k: a.width, transposeA: false, transposeB: true, output: 'bf16' },
    ...{ lda: a.width, ldb: b.width, ldc, scales: { a: a.scales, b: b.scales } },
  });
}

export function linearsEight(
  backend: CudaBackend,
  x: TensorInfo,
  weights: readonly TensorInfo[],
): TensorInfo[] | undefined {
  const [m, k] = x.shape as [number, number];
  if (m * k === 0) return undefined;
  const input = operandOf(backend, x);
  const below = weights.length > 1 ? copiesBelow(backend, weights) : undefined;
  const groups: [readonly TensorInfo[], Matrix][] = below
    ? [[weights, below]]
    : weights.map((weight) => [[weight], operandOf(backend, weight)]);
  const fits = ([, { rows, columns }]: (typeof groups)[0]) =>
    columns === input.columns && rows % RESULT_MULTIPLE === 0 && rows > 0;
  if (!canBeEight(input) || !groups.every((group) => fits(group) && canBeEight(group[1]))) return undefined;
  return backend.withScratch((scratch) => {
    const left = takeEight(backend, x, input.columns, scratch) ?? quantizeRows(backend, m, input, scratch);
    return groups.flatMap(([members, matrix]) => {
      const parts = members.map((weight) => ({ shape: [m, weight.shape[0]!], rows: matrixOf(backend, weight).rows }));
      const results =
        parts.length > 1
          ? makeBeside(
              backend,
              m,
              parts.map(({ shape, rows }) => ({ shape, columns: shape[1]!, width: rows })),
            )
          : parts.map(({ shape, rows }) =>
              makeMatrix(backend, shape as [number, number], 'bf16', { rows: m, columns: rows }),
            );
      const { byRow } = eightWeight(backend, members, matrix);
      multiply(backend, m, matrix.rows, left, byRow, backend.stored(results[0]!).address);
      return results;
    });
  });
}

/** @param below the weights as one matrix, where the gradients lie side by side as their rows do one below the other */
export function linearsGradEight(
  backend: CudaBackend,
  dys: readonly TensorInfo[],
  weights: readonly TensorInfo[],
  below: Matrix | undefined,
): TensorInfo | undefined {
  if (dys.length > 1 && !below) return undefined;
  const weight = below ?? operandOf(backend, weights[0]!);
  const own = operandOf(backend, dys[0]!);
  const dy = below ? { ...own, columns: below.rows } : own;
  if (dy.columns !== weight.rows || weight.columns % RESULT_MULTIPLE !== 0) return undefined;
  if (!canBeEight(dy) || !canBeEight(weight)) return undefined;
  const [m, n] = [dys[0]!.shape[0]!, weights[0]!.shape[1]!];
  const dx = makeMatrix(backend, [m, n], 'bf16', { rows: m, columns: weight.columns });
  backend.withScratch((scratch) => {
    const left = takeEight(backend, dys[0]!, dy.columns, scratch) ?? quantizeRows(backend, m, dy, scratch);
    const { byColumn } = eightWeight(backend, weights, weight);
    multiply(backend, m, weight.columns, left, byColumn, backend.stored(dx).address);
  });
  return dx;
}
