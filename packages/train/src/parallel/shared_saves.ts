// Checkpoints of processes that share a model's weights, each of which has a part of the numbers: they write the files
// together, every process its own ranges, while the run goes on. When all have written, the first one gives the
// checkpoint its name.
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { UserError } from '@stickbreaking/base';
import { writeFullyAsync } from '@stickbreaking/base/node';
import type { SavedTokenizer } from '@stickbreaking/data';
import {
  type LlamaModel,
  MODEL_FILE,
  OPTIMIZER_FILE,
  type SafetensorsLayout,
  safetensorsLayout,
  saveConfig,
} from '@stickbreaking/model';
import { type CheckpointStore, saveFault, type TrainingState, writingDirectory } from '../checkpoint.js';
import type { Collective } from '../collective.js';
import type { Optimizer } from '../optimizer.js';
import type { TrainHooks } from '../train_options.js';
import type { SharedWeights, Snapshot } from './shared_weights.js';

/** How long a process waits for the first one to make the files. */
const FILES_SECONDS = 60;
/** In a row: then the disk is not going to get better by itself. */
const MOST_FAILURES = 2;

export interface SharedSavesOptions {
  model: LlamaModel;
  optimizer: Optimizer;
  weights: SharedWeights;
  collective: Collective;
  /** <run>/checkpoints */
  directory: string;
  /** Of the first process. */
  store: CheckpointStore | undefined;
  tokenizer: SavedTokenizer | undefined;
  hooks: TrainHooks;
}

interface Save {
  state: TrainingState;
  /** Ends when this process's part is on the disk, or cannot be. */
  written: Promise<void>;
  isWritten: boolean;
  error?: Error;
}

/** A file of the checkpoint, and how it lies there. */
interface Part {
  file: string;
  layout: SafetensorsLayout;
}

/**
 * The checkpoints of one process of several. All make the same calls after the same steps; one save is under way at a
 * time.
 */
export class SharedSaves {
  private current: Save | undefined;
  /** Saves in a row that failed, and why the last one did: as this process knows, or another. */
  private failures = 0;
  private fault: { error: Error; isOwn: boolean } | undefined;
  private published: Promise<void> = Promise.resolve();

  constructor(private readonly options: SharedSavesOptions) {}

  /** Begins to save what is there now, once the save before is done. */
  async begin(state: TrainingState): Promise<void> {
    await this.finish();
    this.fault = undefined;
    const { weights, optimizer } = this.options;
    const snapshot = weights.snapshot([optimizer.parameters, ...optimizer.moments.map(([, moments]) => moments)]);
    const save: Save = { state, isWritten: false, written: Promise.resolve() };
    save.written = this.write(state, snapshot)
      .catch((error: Error) => {
        save.error = error;
      })
      .finally(() => {
        snapshot.dispose();
        save.isWritten = true;
      });
    this.current = save;
    // What is read in place must not change meanwhile.
    if (!snapshot.isCopy) await save.written;
  }

  /** Asks, after a step, whether all have written. */
  async look(): Promise<void> {
    const save = this.current;
    if (!save) return;
    const { collective, store } = this.options;
    const isGood = save.isWritten && !save.error;
    const [written, failed] = await collective.sumNumbers([isGood ? 1 : 0, save.isWritten && save.error ? 1 : 0]);
    if (failed! > 0) {
      this.current = undefined;
      await save.written;
      store?.discard(save.state.step);
      await this.failed(save.state.step, save.error);
    } else if (written === collective.size) {
      this.current = undefined;
      this.published = this.publish(save.state);
      this.published.catch(() => {}); // awaited by finish
    }
  }

  /**
   * Ends with the last save.
   *
   * @throws UserError where it failed
   */
  async end(): Promise<void> {
    await this.finish();
    if (this.fault) await this.giveUp(this.fault);
  }

  /** Waits for the save under way. */
  private async finish(): Promise<void> {
    if (this.current) {
      await this.current.written;
      while (this.current) await this.look();
    }
    await this.published;
  }

  private async failed(step: number, own: Error | undefined): Promise<void> {
    this.failures++;
    const error = own ?? new UserError('another process could not write its part');
    this.fault = { error, isOwn: own !== undefined };
    this.options.hooks.onNotice?.(`the checkpoint of step ${step} was not saved: ${error.message}`);
    if (this.failures >= MOST_FAILURES) await this.giveUp(this.fault);
  }

  /** The process that knows why says so, and ends all. */
  private async giveUp({ error, isOwn }: { error: Error; isOwn: boolean }): Promise<never> {
    if (!isOwn) await sleep(5000);
    throw error;
  }

  /** The files' names and layouts, the same in every process. */
  private parts(): Part[] {
    const { model, optimizer } = this.options;
    const tensors = [...model.parameters].map(([name, { shape }]) => ({ name, shape }));
    const moments = optimizer.moments.flatMap(([kind]) =>
      tensors.map(({ name, shape }) => ({ name: `${kind}.${name}`, shape })),
    );
    return [
      { file: MODEL_FILE, layout: safetensorsLayout(tensors) },
      { file: OPTIMIZER_FILE, layout: safetensorsLayout(moments) },
    ];
  }

  /** Writes this process's numbers where they belong in the files. */
  private async write({ step }: TrainingState, snapshot: Snapshot): Promise<void> {
    const { directory, store, optimizer } = this.options;
    const target = writingDirectory(directory, step);
    const kinds = optimizer.moments.map(([kind]) => kind);
    try {
      store?.make(step);
      const parts = this.parts();
      const files = await Promise.all(
        parts.map(({ file, layout }) => (store ? create(join(target, file), layout) : reach(join(target, file)))),
      );
      try {
        for await (const { list, name, from, values } of snapshot.pieces()) {
          const [index, own] = list === 0 ? [0, name] : [1, `${kinds[list - 1]}.${name}`];
          const position = parts[index]!.layout.begins.get(own)! + 4 * from;
          await writeFullyAsync(
            files[index]!,
            new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
            position,
          );
        }
        for (const file of files) await file.sync();
      } finally {
        for (const file of files) await file.close();
      }
    } catch (error) {
      throw saveFault(error, `cannot write the checkpoint ${target}`, dirname(target));
    }
  }

  private async publish(state: TrainingState): Promise<void> {
    const { store, model, tokenizer, hooks } = this.options;
    if (store) {
      try {
        const saved = await store.publish({
          state,
          tokenizer,
          writeModel: (to) => saveConfig(to, model.config, { eosTokenId: tokenizer?.eosId }),
        });
        await hooks.onCheckpoint?.(saved);
      } catch (error) {
        store.discard(state.step);
        return await this.failed(state.step, error as Error);
      }
    }
    this.failures = 0;
  }
}

type File = Awaited<ReturnType<typeof open>>;

/** A file of its full length, which begins as the layout says. */
async function create(path: string, { header, bytes }: SafetensorsLayout): Promise<File> {
  const file = await open(path, 'wx+');
  await writeFullyAsync(file, header, 0);
  await file.truncate(bytes);
  return file;
}

/** A file that another process makes. */
async function reach(path: string): Promise<File> {
  const deadline = Date.now() + FILES_SECONDS * 1000;
  for (;;) {
    try {
      return await open(path, 'r+');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || Date.now() > deadline) throw error;
    }
    await sleep(20);
  }
}
