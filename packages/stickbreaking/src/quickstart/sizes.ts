/** How much a backend can train in minutes. The run files are the full size; a slow backend gets less. */
export interface Size {
  /** Of both run files. */
  overrides: string[];
  /** Tokens of held-out text to evaluate on. */
  evaluationTokens: number;
  /** What the report says of the size. */
  note: string | undefined;
}

export function sizeFor(backend: string): Size {
  if (backend !== 'cpu') return { overrides: [], evaluationTokens: 65_536, note: undefined };
  const directory = 'quickstart/cpu';
  return {
    overrides: [
      ...[`tokenizer=${directory}/tokenizer.json`, `shards=${directory}/tokens`],
      ...['model.vocabSize=512', 'model.hiddenSize=48', 'model.intermediateSize=128', 'model.numLayers=2'],
      ...['model.numHeads=2', 'model.contextLength=32', 'batchTokens=256', 'microBatchTokens=256'],
      ...['stages.0.steps=160', 'stages.1.steps=40', 'validation.tokens=1024'],
    ],
    evaluationTokens: 2048,
    note: 'This backend runs in plain JavaScript, so the models are far smaller (2 layers of 48, context 32) and see little text. The curves show the way; they are no result. With a C++ compiler the full size takes minutes.',
  };
}
