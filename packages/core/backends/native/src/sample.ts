/** Drawing the next tokens on the C++ library. */
import type { SampledTokens, SamplingRow } from '@stickbreaking/core/backend';
import { nativeFunction } from './library.js';

/** Numbers of a row's settings, in the order of `Settings` in sample.cpp. */
const settingsOf = ({ temperature, topK, topP, minP, uniform }: SamplingRow) => [
  temperature,
  topK,
  topP,
  minP,
  uniform,
];

/** core's `sampleTokens`. */
export function sampleTokens(
  logits: Float32Array,
  [count, vocabSize]: [number, number],
  rows: readonly SamplingRow[],
): SampledTokens {
  const tokens = new Int32Array(count);
  const logProbabilities = new Float32Array(count);
  const settings = Float64Array.from(rows.flatMap(settingsOf));
  const run = nativeFunction(
    'void sb_sample(int64_t rows, int64_t vocabSize, void *logits, void *settings, void *tokens, void *logProbabilities)',
  );
  run(count, vocabSize, logits, settings, tokens, logProbabilities);
  return { tokens, logProbabilities };
}
