/** Which other checkpoint of a run can be used where one cannot, and how a message says so. */
import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { actionOf, EXIT, explainSystemError, UserError } from '@stickbreaking/base';
import { checkModelFiles } from './checkpoint.js';
import { OPTIMIZER_FILE, type SummedFiles, summedFiles, type VerifyOptions, verifyChecksums } from './checksums.js';
import { RefusedCheckpoint, readingCheckpoint } from './refused_checkpoint.js';
import { STEP, stepIn, stepNames } from './step_name.js';

/** What another checkpoint must be fit for, and what is said of it. */
export interface InsteadOptions {
  /** Only a model is loaded, and no run goes on; default true. */
  modelOnly?: boolean;
  /** Throws RefusedCheckpoint where one is of no use; `finite`: look at the numbers too. Default: its model can be loaded. */
  check?: (directory: string, finite: boolean) => void;
  /** Bytes of tensors that are read at most; of others only names, shapes and lengths are looked at. Default: no limit. */
  mostBytes?: number | undefined;
  /** Who is told can pass `--no-verify`, which is said where it helps; default false. */
  canSkipVerifying?: boolean;
  /** What to do with the one that was found; default: to take it. */
  advice?: (found: string) => string;
  /** What to do where there is none; default: nothing is said. */
  otherwise?: string;
}

/**
 * Adds to the error of a refused checkpoint which other of its run is good, and what else can be done. Any other error comes
 * back as it is, and one that has it already too.
 */
export async function withCheckpointInstead(error: unknown, options: InsteadOptions = {}): Promise<unknown> {
  if (!(error instanceof RefusedCheckpoint)) return error;
  const parts = await sayInstead(error, options);
  if (options.canSkipVerifying && error.usable)
    parts.push(`${parts.length > 0 ? 'or ' : ''}pass --no-verify to use the damaged one as it is`);
  if (parts.length === 0) return error;
  const told = [error.message.replace(/\.$/, ''), parts.join(', ')].join('; ');
  return new UserError(`${told}.`, { cause: error, exitCode: EXIT.refused });
}

async function sayInstead({ directory }: RefusedCheckpoint, options: InsteadOptions): Promise<string[]> {
  const { advice = () => 'take that one', otherwise } = options;
  const others = othersOf(directory);
  if (others === undefined) return [];
  const found = await firstUsable(others, options);
  if (found === undefined)
    return [`no other checkpoint of the run is good${otherwise === undefined ? '' : `: ${otherwise}`}`];
  const { directory: other, unseen, isVerified } = found;
  if (unseen !== undefined) return [`whether ${other} is good could not be seen (${unseen.replace(/\.$/, '')})`];
  return [`${other} ${isVerified ? 'is good' : 'can be read'}: ${advice(other)}`];
}

/**
 * Uses a checkpoint while its files are verified: damage says more than what stumbled over it.
 *
 * @throws as `thenVerifying`
 */
export async function whileVerifying<T>(verified: Promise<unknown> | undefined, use: () => T | Promise<T>): Promise<T> {
  verified?.catch(() => {}); // awaited below
  return await thenVerifying(use, async () => await verified);
}

/**
 * Uses a checkpoint and verifies its files afterwards, also where it could not be used.
 *
 * @throws what verifying threw, which says whether the checkpoint could be used but for that; otherwise what using it threw
 */
export async function thenVerifying<T>(use: () => T | Promise<T>, verify: () => Promise<unknown>): Promise<T> {
  let used: { value: T } | undefined;
  let fault: unknown;
  try {
    used = { value: await use() };
  } catch (error) {
    fault = error;
  }
  try {
    await verify();
  } catch (damage) {
    if (damage instanceof RefusedCheckpoint) damage.usable = used !== undefined;
    throw damage;
  }
  if (!used) throw fault;
  return used.value;
}

/**
 * Loads a checkpoint and verifies its files, which are read once where loading them sums them.
 *
 * @param options of `verifyChecksums`; undefined: they are not verified
 * @throws as `thenVerifying`
 */
export async function loadVerified<T>(
  directory: string,
  options: Omit<VerifyOptions, 'summed' | 'mostBytes'> | undefined,
  load: (summed: SummedFiles | undefined) => Promise<T>,
): Promise<T> {
  if (!options) return await load(undefined);
  const summed = summedFiles(directory);
  return await thenVerifying(
    () => load(summed),
    () => verifyChecksums(directory, { ...options, summed }),
  );
}

/** The other checkpoints of the run, those before it first, the nearest first; undefined where it is none of a run. */
function othersOf(directory: string): string[] | undefined {
  const own = basename(resolve(directory));
  if (!STEP.test(own)) return undefined;
  const all = own === basename(directory) ? dirname(directory) : join(directory, '..'); // as `.` it has no name
  const names = stepNames(readdirSync(all));
  const before = names.filter((name) => stepIn(name) < stepIn(own)).reverse();
  const after = names.filter((name) => stepIn(name) > stepIn(own));
  return [...before, ...after].map((name) => join(all, name));
}

interface Found {
  directory: string;
  isVerified?: boolean;
  /** Why it could not be looked at, which is not its own fault. */
  unseen?: string;
}

const modelCanBeLoaded = (directory: string, finite: boolean) => checkModelFiles(directory, { finite });

/** The first that is good, or that cannot be told from one. */
async function firstUsable(
  directories: readonly string[],
  { modelOnly = true, check = modelCanBeLoaded, mostBytes = Number.POSITIVE_INFINITY }: InsteadOptions,
): Promise<Found | undefined> {
  let left = mostBytes;
  for (const directory of directories) {
    try {
      const bytes = readingCheckpoint(directory, () => tensorBytes(directory, modelOnly));
      const isRead = bytes <= left;
      if (isRead) left -= bytes;
      const isVerified = await verifyChecksums(directory, { modelOnly, ...(isRead ? {} : { mostBytes: 0 }) });
      check(directory, isRead);
      return { directory, isVerified };
    } catch (error) {
      if (error instanceof RefusedCheckpoint) continue; // what is wrong with it would be said of it alone
      const told = explainSystemError(error, actionOf(error));
      if (!(told instanceof UserError)) throw error;
      return { directory, unseen: told.message };
    }
  }
  return undefined;
}

/** Bytes of the files that hold a checkpoint's tensors. */
export function tensorBytes(directory: string, modelOnly: boolean): number {
  const names = readdirSync(directory).filter((name) => name.endsWith('.safetensors'));
  const read = names.filter((name) => !(modelOnly && name === OPTIMIZER_FILE));
  return read.reduce((sum, name) => sum + (statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0), 0);
}
