// Checkpoints of a run: <run>/checkpoints/step-00000123/ holds the model, its tokenizer, the optimizer and the state
// of the loop. A directory is written under another name, flushed and renamed, so one that is called step-… is whole; it
// is renamed away before it is deleted, for the same reason.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, join, resolve, sep } from 'node:path';
import { actionOf, explainSystemError, systemErrorIn, UserError } from '@stickbreaking/base';
import {
  makeDirectory,
  readWhole,
  removeLeftovers,
  replaceFile,
  syncDirectory,
  syncDirectoryWithFiles,
} from '@stickbreaking/base/node';
import { type SavedTokenizer, saveTokenizer } from '@stickbreaking/data';
import {
  CHECKSUM_ALGORITHM,
  CHECKSUMS_FILE,
  checksumsOf,
  type FileChecksum,
  nameOfStep,
  RefusedCheckpoint,
  readingCheckpoint,
  STATE_FILE,
  STEP,
  stepIn,
  stepNames,
} from '@stickbreaking/model';
import { z } from 'zod';

const count = z.int().nonnegative();

export const TrainingStateSchema = z.strictObject({
  version: z.literal(1),
  /** steps taken, skipped ones included, over all stages */
  step: count,
  /** updates of the parameters: what AdamW's bias correction counts */
  updates: count,
  tokens: count,
  /** index of the stage that the next step belongs to, and the steps taken in it */
  stage: count,
  stageStep: count,
  /** steps in a row, up to here, whose loss or gradient was not finite */
  nonFiniteSteps: count,
  /** The cursor of the data; null before the first step. */
  cursor: z.unknown(),
  /** Determines initial weights and data order; nothing else in a run is random. */
  seed: count,
  best: z.strictObject({ step: count, validationLoss: z.number() }).nullable(),
  /** What the numbers of the run depend on, compared when it is resumed. */
  identity: z.record(z.string(), z.unknown()),
  /** What the bits of results depended on when it was saved; older versions did not say. */
  arithmetic: z.string().optional(),
  /** How often each expert of each layer was chosen in the last step, where the next depends on it. */
  expertCounts: z.array(z.array(count)).optional(),
});

/** As it lies in a checkpoint. */
const SavedStateSchema = TrainingStateSchema.extend({
  /** Kind of the sums that `checksums.json` holds; older versions did not say. */
  checksums: z.string().optional(),
});

/** The state of a run, as saved with every checkpoint. */
export type TrainingState = z.infer<typeof TrainingStateSchema>;

export interface CheckpointContent {
  state: TrainingState;
  /** copied into the checkpoint, which then stands on its own */
  tokenizer?: SavedTokenizer | undefined;
  /** Writes the model's and the optimizer's files into the directory. @returns checksums that it knows, by file name */
  writeTensors(directory: string): Promise<ReadonlyMap<string, FileChecksum>>;
}

/** The checkpoints of a run's directory. */
export class CheckpointStore {
  constructor(
    /** <run>/checkpoints */
    readonly directory: string,
    private readonly keep: { last: number; best: boolean },
  ) {}

  /** Steps of the complete checkpoints, ascending. */
  steps(): number[] {
    if (!existsSync(this.directory)) return [];
    return stepNames(readdirSync(this.directory)).map(stepIn);
  }

  /** The directory of the checkpoint after `step` steps. */
  path(step: number): string {
    return join(this.directory, nameOfStep(step));
  }

  /** The directories of the checkpoints that came after one. */
  after(directory: string): string[] {
    const all = this.steps().map((step) => this.path(step));
    return all.slice(all.indexOf(directory) + 1);
  }

  /** The newest checkpoint's directory. */
  latest(): string | undefined {
    const step = this.steps().at(-1);
    return step === undefined ? undefined : this.path(step);
  }

  /** Cleans up after a crash: removes what is half written or half deleted, and finishes an interrupted save. */
  repair(): void {
    if (!existsSync(this.directory)) return;
    for (const name of readdirSync(this.directory)) {
      if (name.startsWith('.')) rmSync(join(this.directory, name), { recursive: true, force: true });
    }
    removeLeftovers(this.directory, 'anyone');
    const latest = this.latest();
    if (latest) this.settle(readState(latest));
  }

  /** Writes a checkpoint, points `latest` to it and deletes those no longer kept. Returns its directory. */
  async save(content: CheckpointContent): Promise<string> {
    const { state } = content;
    const target = this.path(state.step);
    if (existsSync(target)) return target; // a run is deterministic: what stands there is the same
    const temporary = writingDirectory(this.directory, state.step);
    try {
      rmSync(temporary, { recursive: true, force: true });
      this.makeWriting(state.step);
      const sums = await content.writeTensors(temporary);
      await this.complete(content, temporary, sums);
    } catch (error) {
      rmSync(temporary, { recursive: true, force: true });
      const last = this.latest();
      const action = `cannot write the checkpoint ${target}${last ? ` (the last whole one is ${last})` : ''}`;
      throw saveFault(error, action, this.directory);
    }
    return target;
  }

  /** Writes what goes with the tensors, and gives a checkpoint its name. */
  private async complete(
    { state, tokenizer }: Pick<CheckpointContent, 'state' | 'tokenizer'>,
    temporary: string,
    sums?: ReadonlyMap<string, FileChecksum>,
  ): Promise<void> {
    if (tokenizer) saveTokenizer(tokenizer, temporary);
    replaceFile(join(temporary, STATE_FILE), savedState(state));
    replaceFile(join(temporary, CHECKSUMS_FILE), await checksumsOf(temporary, sums));
    syncDirectoryWithFiles(temporary);
    renameSync(temporary, this.path(state.step));
    syncDirectory(this.directory);
    this.settle(state);
  }

  /** Makes the directory in which several processes write the tensors of a checkpoint. */
  make(step: number): void {
    this.discard(step);
    this.makeWriting(step);
  }

  private makeWriting(step: number): void {
    makeDirectory(this.directory);
    mkdirSync(writingDirectory(this.directory, step));
  }

  /** Finishes a checkpoint whose tensors several processes have written. Returns its directory. */
  async publish({
    writeModel,
    ...content
  }: Pick<CheckpointContent, 'state' | 'tokenizer'> & { writeModel: (directory: string) => void }): Promise<string> {
    const { step } = content.state;
    const target = this.path(step);
    const temporary = writingDirectory(this.directory, step);
    try {
      writeModel(temporary);
      await this.complete(content, temporary);
    } catch (error) {
      throw saveFault(error, `cannot write the checkpoint ${target}`, this.directory);
    }
    return target;
  }

  /** Removes a checkpoint that was begun. */
  discard(step: number): void {
    rmSync(writingDirectory(this.directory, step), { recursive: true, force: true });
  }

  /** Deletes the checkpoints that are no longer kept, which makes room on a full disk, then points at newest and best. */
  private settle({ step, best }: TrainingState): void {
    this.prune(best?.step);
    this.point('latest', step);
    if (best && this.steps().includes(best.step)) this.point('best', best.step);
  }

  /** Small text files that name a checkpoint. */
  private point(pointer: 'latest' | 'best', step: number): void {
    const path = join(this.directory, pointer);
    const text = `${nameOfStep(step)}\n`;
    if (!existsSync(path) || readWhole(path).toString() !== text) replaceFile(path, text);
  }

  private prune(best: number | undefined): void {
    const steps = this.steps();
    const kept = new Set(steps.slice(-this.keep.last));
    if (this.keep.best && best !== undefined) kept.add(best);
    for (const step of steps) {
      if (kept.has(step)) continue;
      const doomed = join(this.directory, `.deleting-${nameOfStep(step)}`);
      renameSync(this.path(step), doomed);
      rmSync(doomed, { recursive: true, force: true });
    }
  }
}

/** The checkpoints of a run's directory, to be read only. */
export const storeToRead = (run: string) => new CheckpointStore(join(run, 'checkpoints'), { last: 1, best: false });

/** What kept a checkpoint from being written; a file that is none of `directory` is named, as it is that one's fault. */
export function saveFault(error: unknown, action: string, directory: string): unknown {
  const cause = systemErrorIn(error);
  const { code, path, dest } = (cause ?? {}) as { code?: string; path?: string; dest?: string };
  // Of a copy that fails, what is not there is its source.
  const at = code === 'ENOENT' ? path : (dest ?? path);
  const isOther = typeof at === 'string' && !resolve(at).startsWith(resolve(directory) + sep);
  if (!isOther) return explainSystemError(cause, action);
  const told = error instanceof UserError ? error : explainSystemError(cause, actionOf(cause));
  return told instanceof UserError ? new UserError(`${action}: ${told.message}`, { cause }) : told;
}

/** Where the checkpoint after `step` steps lies until it is whole. */
export const writingDirectory = (directory: string, step: number) => join(directory, `.writing-${nameOfStep(step)}`);

function savedState(state: TrainingState): string {
  const saved: z.input<typeof SavedStateSchema> = { ...state, checksums: CHECKSUM_ALGORITHM };
  return `${JSON.stringify(saved, null, 2)}\n`;
}

/** Reads a checkpoint's state.json. @throws RefusedCheckpoint if it is missing or damaged */
export const readState = (directory: string): TrainingState => readingCheckpoint(directory, () => stateIn(directory));

function stateIn(directory: string): TrainingState {
  const path = join(directory, STATE_FILE);
  let json: unknown;
  try {
    json = JSON.parse(readWhole(path).toString());
  } catch (error) {
    if (error instanceof SyntaxError) throw new UserError(`${path} is damaged: it is not valid JSON.`);
    throw error;
  }
  const result = SavedStateSchema.safeParse(json);
  if (result.success) {
    const { checksums: _, ...state } = result.data;
    const { step } = state;
    const name = basename(resolve(directory));
    if (STEP.test(name) && name !== nameOfStep(step)) {
      throw new RefusedCheckpoint(
        `${path} is of step ${step}, which is not the step of its directory; it was put there by hand.`,
        directory,
      );
    }
    return state;
  }
  const issue = result.error.issues[0]!;
  throw new UserError(`${path} is damaged, key '${issue.path.join('.')}': ${issue.message}.`);
}
