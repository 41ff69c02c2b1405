/** Which other checkpoint of a run can be used where one cannot, and how a message says so. */
import { readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { EXIT, UserError } from '@stickbreaking/base';
import { checkModelFiles, STEP } from './checkpoint.js';
import { verifyChecksums } from './checksums.js';
import { RefusedCheckpoint } from './refused_checkpoint.js';

/** What another checkpoint must be fit for, and what is said of it. */
export interface InsteadOptions {
  /** Only a model is loaded, and no run goes on; default true. */
  modelOnly?: boolean;
  /** Throws where a checkpoint whose model can be loaded is still of no use. */
  check?: (directory: string) => void;
  /** The refused one can be used by who passes `--no-verify`. */
  usableAsItIs?: boolean;
  /** What to do with the one that was found; default: to take it. */
  advice?: (found: string) => string;
  /** What to do where there is none; default: nothing is said. */
  otherwise?: string;
}

/**
 * Adds to the error of a refused checkpoint which other of its run is good, and what else can be done. Any other error comes
 * back as it is.
 */
export async function withCheckpointInstead(error: unknown, options: InsteadOptions = {}): Promise<unknown> {
  if (!(error instanceof RefusedCheckpoint)) return error;
  const { advice = () => 'take that one', otherwise, usableAsItIs = false } = options;
  const others = othersOf(error.directory);
  const found = await firstUsable(others, options);
  const none = `no other checkpoint of the run is good${otherwise ? `: ${otherwise}` : ''}`;
  const parts = [
    ...(found
      ? [`${found.directory} ${found.isVerified ? 'is good' : 'can be read'}: ${advice(found.directory)}`]
      : []),
    ...(!found && others !== undefined ? [none] : []),
  ];
  if (usableAsItIs) parts.push(`${parts.length > 0 ? 'or ' : ''}pass --no-verify to use it as it is`);
  if (parts.length === 0) return error;
  const told = [error.message.replace(/\.$/, ''), parts.join(', ')].join('; ');
  return new UserError(`${told}.`, { cause: error, exitCode: EXIT.refused });
}

/**
 * Uses a checkpoint while its files are verified: damage says more than what stumbled over it.
 *
 * @param explain makes of an error the one that is thrown; `usable`: the checkpoint could be used but for the damage
 */
export async function whileVerifying<T>(
  verified: Promise<unknown> | undefined,
  use: () => T | Promise<T>,
  explain: (error: unknown, usable: boolean) => Promise<unknown>,
): Promise<T> {
  verified?.catch(() => {}); // awaited below
  let used: { value: T } | undefined;
  let fault: unknown;
  try {
    used = { value: await use() };
  } catch (error) {
    fault = error;
  }
  try {
    await verified;
  } catch (damage) {
    throw await explain(damage, used !== undefined);
  }
  if (!used) throw await explain(fault, false);
  return used.value;
}

/** The other checkpoints of the run, those before it first, the nearest first; undefined where it is none of a run. */
function othersOf(directory: string): string[] | undefined {
  const own = basename(directory);
  if (!STEP.test(own)) return undefined;
  const all = dirname(directory);
  const step = (name: string) => Number(name.slice(5));
  const others = readdirSync(all).filter((name) => STEP.test(name) && name !== own);
  const before = others.filter((name) => step(name) < step(own)).sort((a, b) => step(b) - step(a));
  const after = others.filter((name) => step(name) > step(own)).sort((a, b) => step(a) - step(b));
  return [...before, ...after].map((name) => join(all, name));
}

async function firstUsable(directories: readonly string[] = [], { modelOnly = true, check }: InsteadOptions) {
  for (const directory of directories) {
    try {
      const isVerified = await verifyChecksums(directory, { modelOnly });
      checkModelFiles(directory, { finite: true });
      check?.(directory);
      return { directory, isVerified };
    } catch {
      // What is wrong with it would be said of it alone.
    }
  }
  return undefined;
}
