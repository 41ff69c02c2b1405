// A run's text: sources become token shards (once, and shared between runs), and the shards of a stage a loader.
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import {
  type LoaderCursor,
  type MixtureComponent,
  openTokenizer,
  PackedLoader,
  type PrepareProgress,
  prepareShards,
  type SourceConfig,
  type TokenDataset,
  type Tokenizer,
} from '@stickbreaking/data';
import { TrainError } from './errors.js';
import type { RunConfig, Stage } from './run_config.js';

export interface RunData {
  tokenizer: Tokenizer;
  /** each stage's mixture */
  stages: MixtureComponent[][];
  validation: MixtureComponent[] | undefined;
  close(): void;
}

/** Opens the tokenizer and checks that the model has an embedding for each of its tokens. */
export function openRunTokenizer(run: RunConfig): Tokenizer {
  const tokenizer = openTokenizer(run.tokenizer);
  if (tokenizer.vocabSize > run.model.vocabSize) {
    throw new TrainError(
      `the tokenizer ${tokenizer.path} has ${tokenizer.vocabSize} tokens, more than the model's vocabSize ${run.model.vocabSize}; raise vocabSize or use a smaller tokenizer.`,
    );
  }
  return tokenizer;
}

/** Tokenizes what is not tokenized yet and opens everything. */
export async function openRunData(
  run: RunConfig,
  tokenizer: Tokenizer,
  options: { onProgress?: (progress: PrepareProgress) => void; signal?: AbortSignal } = {},
): Promise<RunData> {
  const opened = new Map<string, TokenDataset>();
  const mixture = async (sources: readonly SourceConfig[]) => {
    const components: MixtureComponent[] = [];
    for (const source of sources) {
      const directory = shardsOf(run, source);
      const dataset = opened.get(directory) ?? (await prepareShards({ source, tokenizer, directory, ...options }));
      opened.set(directory, dataset);
      components.push({ dataset, weight: source.weight });
    }
    return components;
  };
  const stages: MixtureComponent[][] = [];
  for (const stage of run.stages) stages.push(await mixture(stage.data));
  const validation = run.validation && (await mixture(run.validation.data));
  return {
    tokenizer,
    stages,
    validation,
    close: () => {
      for (const dataset of opened.values()) dataset.close();
    },
  };
}

/** Where a source's shards are: its name and a hash of what is read and how. */
function shardsOf(run: RunConfig, source: SourceConfig): string {
  const { path, field, format, split, name = 'source' } = source;
  const hash = createHash('sha256').update(JSON.stringify([path, field, format ?? null, split]));
  const directory = run.shardDirectory ?? join(run.runDirectory, 'shards');
  return join(directory, `${name.replaceAll(/[^\w.-]+/g, '-')}-${hash.digest('hex').slice(0, 12)}`);
}

/** The loader of stage `index`; a stage has its own order of documents. */
export function stageLoader(
  run: RunConfig,
  data: RunData,
  stages: readonly Stage[],
  index: number,
  cursor: LoaderCursor | null,
): PackedLoader {
  const { contextLength, microBatchTokens } = stages[index]!;
  return new PackedLoader({
    mixture: data.stages[index]!,
    contextLength,
    microBatchTokens,
    seed: run.seed + index,
    ...(cursor && { cursor }),
  });
}
