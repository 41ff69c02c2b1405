// How exactly a run keeps its residual stream, where its configuration does not say so.
import type { MatmulPrecision, ResidualType } from '@stickbreaking/core';

/** Of a new run: more bits than bfloat16's, which cost little, but where matmuls round far more than that saves. */
export function residualTypeOf({
  residualType,
  precision,
}: {
  residualType?: ResidualType | undefined;
  precision?: MatmulPrecision | undefined;
}): ResidualType {
  return residualType ?? (precision === 'fp8' ? 'bfloat16' : 'fp24');
}

/** Of a run with this identity: those of versions that knew bfloat16 alone do not say so. */
export function residualTypeIn({ residualType }: Record<string, unknown>): ResidualType {
  return residualType === 'fp24' ? 'fp24' : 'bfloat16';
}
