/**
 * Bounds of the numbers in configurations. Compiled kernels receive them as int32 and float32, where a number that does
 * not fit would silently become another one; and a size that no machine can hold should be reported before it is tried.
 */
import { z } from 'zod';

/** What an int32 holds at most. */
export const LARGEST_INT = 2 ** 31 - 1;
const LARGEST_FLOAT = 3.4e38;
/** Smaller float32 numbers lose digits, and kernels may treat them as 0. */
const SMALLEST_FLOAT = 1.2e-38;

/** A whole number from 1, at most `most`. */
export const count = (most = LARGEST_INT) => z.int().min(1).max(most);
/** A whole number from 0. */
export const natural = () => z.int().min(0).max(LARGEST_INT);
/** A number above 0 that float32 can hold. */
export const positive = () => z.number().min(SMALLEST_FLOAT).max(LARGEST_FLOAT);
/** 0, or such a number. */
export const nonNegative = () =>
  z
    .number()
    .min(0)
    .max(LARGEST_FLOAT)
    .refine((value) => value === 0 || value >= SMALLEST_FLOAT, {
      error: `too small: expected 0 or a number from ${SMALLEST_FLOAT}`,
    });
