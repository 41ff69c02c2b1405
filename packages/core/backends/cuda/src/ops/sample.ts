/** Drawing the next tokens where the logits are, so that a few numbers are downloaded in place of a vocabulary for each row. */
import type { SampledTokens, SamplingRow } from '@stickbreaking/core/backend';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { CudaBackend } from '../backend.js';
import { SAMPLE_ROW } from '../kernel_interface.js';
import { i32, i64, pointer } from '../launch.js';
import { matrixOf } from '../matrix.js';
import { TYPE_CODE } from '../storage.js';

const SAMPLE_THREADS = 1024;
/** sample.cu: of more its sums would pass 2³². */
const MOST_TOKENS = 2 ** 18;

/** core's `sampleTokens`; undefined where the kernel does not serve. */
export function sampleTokens(
  backend: CudaBackend,
  logits: TensorInfo,
  rows: readonly SamplingRow[],
): Promise<SampledTokens> | undefined {
  return logits.shape[1]! <= MOST_TOKENS ? drawTokens(backend, logits, rows) : undefined;
}

async function drawTokens(
  backend: CudaBackend,
  logits: TensorInfo,
  rows: readonly SamplingRow[],
): Promise<SampledTokens> {
  const [count, vocabSize] = logits.shape as [number, number];
  const matrix = matrixOf(backend, logits);
  const { type } = backend.stored(logits);
  const drawn = backend.make([2, count], 'i32');
  const address = backend.address(drawn);
  backend.withScratch((scratch) => {
    const settings = SAMPLE_ROW.array(
      rows.map(({ temperature, topK, topP, minP, uniform }) => ({
        inverseTemperature: temperature === 0 ? 0 : 1 / temperature,
        ...{ topP, minP, topK: Math.min(topK, vocabSize), uniform: Math.floor(uniform * 2 ** 32) | 0 },
      })),
    );
    backend.launch('sample.cu', 'sample_tokens', { grid: [count], block: SAMPLE_THREADS }, [
      ...[address, address + 4 * count, matrix.address].map(pointer),
      ...[i32(TYPE_CODE[type]), i64(matrix.stride), pointer(scratch.upload(settings)), i32(vocabSize)],
    ]);
  });
  const values = (await backend.read(drawn.dataId)) as Int32Array;
  backend.disposeData(drawn.dataId);
  const logProbabilities = new Float32Array(values.slice(count).buffer);
  return { tokens: values.slice(0, count), logProbabilities };
}
