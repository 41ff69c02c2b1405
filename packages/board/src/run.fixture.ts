/** A run's directory as sb-train leaves it, with numbers of one's choice. */
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface MadeRun {
  steps: number;
  /** How many its configuration asks for; default: as many. */
  totalSteps?: number;
  learningRate?: number;
  samples?: boolean;
  evaluation?: boolean;
}

export function makeRun(directory: string, made: MadeRun): void {
  const { steps, totalSteps = steps, learningRate = 0.003 } = made;
  mkdirSync(join(directory, 'checkpoints'), { recursive: true });
  const config = {
    output: directory,
    tokenizer: 'tokenizer.json',
    model: { vocabSize: 300, hiddenSize: 16, intermediateSize: 24, numLayers: 1, numHeads: 2, contextLength: 32 },
    batchTokens: 128,
    microBatchTokens: 64,
    stages: [{ steps: totalSteps, schedule: { kind: 'cosine', peak: learningRate }, data: [{ path: 'text.jsonl' }] }],
  };
  writeFileSync(
    join(directory, 'train.log'),
    `${JSON.stringify({ msg: 'start', config, backend: 'native: made up' })}\n`,
  );
  writeFileSync(join(directory, 'metrics.jsonl'), '');
  appendSteps(directory, 1, steps, learningRate);
  for (const step of [steps / 2, steps]) {
    const name = `step-${String(step).padStart(8, '0')}`;
    mkdirSync(join(directory, 'checkpoints', name));
    writeFileSync(join(directory, 'checkpoints', name, 'model.safetensors'), Buffer.alloc(1024 * step));
    writeFileSync(join(directory, 'checkpoints', step === steps ? 'latest' : 'best'), `${name}\n`);
  }
  if (made.samples) {
    const sample = (step: number) => ({ step, prompt: 'Once upon', text: ` a <b>time</b> at ${step}` });
    writeFileSync(
      join(directory, 'samples.jsonl'),
      [steps / 2, steps].map((step) => `${JSON.stringify(sample(step))}\n`).join(''),
    );
  }
  if (made.evaluation) {
    const checkpoint = join(directory, 'checkpoints', `step-${String(steps).padStart(8, '0')}`);
    const results = [128, 256].map((length) => ({ protocol: 'stream', length, perplexity: 10 + length / 100 }));
    writeFileSync(join(directory, 'evaluation.json'), JSON.stringify({ checkpoint, results }));
  }
}

export function appendSteps(directory: string, from: number, to: number, learningRate = 0.003): void {
  for (let step = from; step <= to; step++) {
    const at = { tokens: 128 * step, time: new Date(1.7e12 + 500 * step).toISOString(), elapsedSeconds: step / 2 };
    const line = {
      ...{
        step,
        stage: 0,
        loss: 2 + 4 / step,
        learningRate,
        gradientNorm: step === 3 && learningRate < 0.005 ? 400 : 1 / step,
      },
      ...{ tokensPerSecond: 256, memoryBytes: 2 ** 28 + step, ...at },
    };
    appendFileSync(join(directory, 'metrics.jsonl'), `${JSON.stringify(line)}\n`);
    if (step % 10 === 0)
      appendFileSync(
        join(directory, 'metrics.jsonl'),
        `${JSON.stringify({ step, validationLoss: 2.1 + 4 / step, attention: { distance: [step, 2] }, ...at })}\n`,
      );
  }
}
