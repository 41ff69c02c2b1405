// A run's text: which files, tokenized into shards that runs share, and read as packed micro-batches.
import { createHash } from 'node:crypto';
import { dirname, join } from 'node:path';
import {
  type LoaderCursor,
  PackedLoader,
  type PrepareProgress,
  prepareShards,
  type SourceConfig,
  type TokenDataset,
  type Tokenizer,
} from '@stickbreaking/data';
import { meanLoss } from './batch_gradients.js';
import type { Collective } from './collective.js';
import type { RunConfig } from './run_config.js';
import type { StageData } from './stage.js';
import type { TrainOptions } from './train_options.js';

/** Every source of the run, each once. */
export function sourcesOf(config: RunConfig): SourceConfig[] {
  const all = [...config.stages.flatMap((stage) => stage.data ?? []), ...(config.validation?.data ?? [])];
  return [...new Map(all.map((source) => [sourceKey(source), source])).values()];
}

/** What of a source decides its tokens. */
function sourceKey({ path, field, format, split }: SourceConfig): string {
  return JSON.stringify([[path].flat(), field, format ?? null, split]);
}

/**
 * What determines the batches of a stage's data, for the run's identity. It excludes paths: text may be moved, and the
 * loader's cursor recognises its shards by their hashes.
 */
export function dataIdentity({ interleave }: RunConfig, sources: readonly SourceConfig[]): unknown {
  return { interleave, sources: sources.map(({ field, split, weight }) => ({ field, split, weight })) };
}

/** The directory of a source's shards: named for people, and by hash of what they are made from. */
export function shardDirectory(config: RunConfig, source: SourceConfig, tokenizer: Tokenizer): string {
  const base = config.shards ?? join(dirname(config.output), 'tokens');
  const { hash: tokens, beginId, eosId } = tokenizer;
  const made = `${sourceKey(source)}${tokens} ${beginId} ${eosId}`;
  const hash = createHash('sha256').update(made).digest('hex').slice(0, 10);
  const name = source.name ?? [source.path].flat()[0]!;
  const readable = name
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .replace(/^-+|-+$/g, '')
    .slice(-40);
  return join(base, `${readable || 'text'}-${hash}`);
}

export class RunData {
  private readonly datasets = new Map<string, TokenDataset>();

  private constructor(private readonly config: RunConfig) {}

  /** Tokenizes what has not been, and opens all of it. */
  static async prepare(
    config: RunConfig,
    tokenizer: Tokenizer,
    options: { onProgress?: (progress: PrepareProgress) => void; signal?: AbortSignal },
  ): Promise<RunData> {
    const data = new RunData(config);
    const sources = sourcesOf(config);
    try {
      for (const source of sources) {
        const directory = shardDirectory(config, source, tokenizer);
        data.datasets.set(sourceKey(source), await prepareShards({ source, tokenizer, directory, ...options }));
      }
    } catch (error) {
      data.close();
      throw error;
    }
    return data;
  }

  /** The packed batches of stage `index`, if it has data of its own. */
  stage(index: number): StageData | undefined {
    const sources = this.config.stages[index]!.data;
    if (!sources) return undefined;
    const mixture = this.mixture(sources);
    // Another order for each stage, so that one which reads the same text meets it afresh.
    const seed = this.config.seed + index;
    const { interleave } = this.config;
    return {
      identity: dataIdentity(this.config, sources),
      open: ({ contextLength, microBatchTokens }, cursor) =>
        new PackedLoader({
          ...{ mixture, contextLength, microBatchTokens, interleave, seed },
          cursor: cursor as LoaderCursor | undefined,
        }),
    };
  }

  /** The validation loss of a model: always on the same tokens. */
  validation(collective?: Collective): TrainOptions['validation'] {
    const { validation, microBatchTokens, model } = this.config;
    if (!validation) return undefined;
    const mixture = this.mixture(validation.data);
    const contextLength = Math.min(model.contextLength, microBatchTokens);
    const count = Math.ceil(validation.tokens / microBatchTokens);
    const open = () =>
      new PackedLoader({ mixture, contextLength, microBatchTokens, interleave: this.config.interleave, seed: 0 });
    return {
      everySteps: validation.everySteps,
      sample: open().next(),
      loss: (trained) => {
        const loader = open();
        const batches = (function* () {
          for (let i = 0; i < count; i++) yield loader.next();
        })();
        return meanLoss(trained, batches, collective);
      },
    };
  }

  get tokens(): number {
    return [...this.datasets.values()].reduce((sum, { tokens }) => sum + tokens, 0);
  }

  close(): void {
    for (const dataset of this.datasets.values()) dataset.close();
  }

  private mixture(sources: readonly SourceConfig[]) {
    return sources.map((source) => ({ dataset: this.datasets.get(sourceKey(source))!, weight: source.weight }));
  }
}
