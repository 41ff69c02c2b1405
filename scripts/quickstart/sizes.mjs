/** How much a backend can train in minutes. The configurations in `configs/` are the full size; slow backends get less. */
export function sizeFor(backend) {
  if (backend !== 'cpu') {
    return {
      vocabSize: 2048,
      contextLength: 256,
      evaluationTokens: 65_536,
      overrides: [],
      said: 'Full size: 4 layers of 128, context 256.',
    };
  }
  return {
    vocabSize: 1024,
    contextLength: 128,
    evaluationTokens: 8192,
    overrides: [
      ...['model.vocabSize=1024', 'model.hiddenSize=64', 'model.intermediateSize=176', 'model.numLayers=2'],
      ...['model.numHeads=2', 'model.contextLength=128', 'batchTokens=1024', 'microBatchTokens=1024'],
      ...['stages.0.contextLength=128', 'stages.1.contextLength=128', 'stages.0.steps=120', 'stages.1.steps=30'],
    ],
    said: 'This backend runs in plain JavaScript: two much smaller models (2 layers of 64, context 128) on less text. The curves show the way; they are no result.',
  };
}
