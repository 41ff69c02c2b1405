import { UserError } from '@stickbreaking/base';

/** What the CUDA backend reports to its user: one line that says what failed and what to do. */
export class CudaError extends UserError {}
