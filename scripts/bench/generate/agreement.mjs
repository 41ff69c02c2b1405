// Sequences sampled with a seed each, alone and in batches: how many come out otherwise.
import { seededRandom } from '@stickbreaking/base';

/**
 * @param tokens of a text, of which prompts are pieces
 * @returns how many sequences and tokens were made, and how many sequences differ from the same alone, by batch size
 */
export async function measureAgreement(model, tokens, { count, newTokens, batches }) {
  const { uniform } = seededRandom(1, 'agreement');
  const between = (low, high) => low + Math.floor(uniform() * (high - low));
  const settings = [
    () => ({}),
    () => ({ temperature: 0.3 + uniform() }),
    () => ({ topK: between(1, 60), temperature: 0.8 }),
    () => ({ topP: 0.5 + uniform() / 2 }),
    () => ({ minP: uniform() / 5 }),
    () => ({ topK: 40, topP: 0.9, repetitionPenalty: 1.1 }),
  ];
  const requests = Array.from({ length: count }, (_, i) => {
    const begin = between(0, tokens.length - 200);
    return {
      prompt: tokens.slice(begin, begin + between(1, 150)),
      ...{ seed: between(0, 2 ** 31), maxNewTokens: between(1, 2 * newTokens) },
      ...settings[i % settings.length](),
    };
  });
  const sampled = async (batchSize) => {
    const rows = requests.map(() => []);
    const start = performance.now();
    for await (const event of model.generateBatch(requests, { batchSize })) {
      if ('token' in event) rows[event.index].push(event.token);
    }
    return {
      rows: rows.map((row) => row.join()),
      seconds: (performance.now() - start) / 1000,
      tokens: rows.flat().length,
    };
  };
  const alone = await sampled(1);
  const found = { sequences: count, tokens: alone.tokens, secondsAlone: alone.seconds, batches: [] };
  for (const batchSize of batches) {
    const { rows, seconds } = await sampled(batchSize);
    found.batches.push({ batchSize, seconds, differing: rows.filter((row, i) => row !== alone.rows[i]).length });
  }
  return found;
}
