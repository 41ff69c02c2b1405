// What a run starts from: new weights, or those of a checkpoint. The same weights compute something else under another
// attention, and mean nothing under another tokenizer, so what differs is refused unless the run's file allows it.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { UserError } from '@stickbreaking/base';
import { openTokenizer, type Tokenizer } from '@stickbreaking/data';
import {
  CHECKSUMS_FILE,
  checkModelFiles,
  type LlamaConfig,
  LlamaModel,
  type LoadAsyncOptions,
  loadConfig,
  parameterShapes,
  readingCheckpoint,
  verifyChecksums,
  whileVerifying,
} from '@stickbreaking/model';
import { z } from 'zod';
import { type Collective, oneProcess } from './collective.js';
import { firstDifference, say } from './identity.js';
import { saidModel } from './implied.js';

export const StartSchema = z.union(
  [
    z.string().min(1),
    z.strictObject({
      /** A checkpoint or run directory. */
      path: z.string().min(1),
      /**
       * What may differ from the checkpoint: keys of the model such as `attention.window` (with all below them),
       * `tokenizer`.
       */
      allow: z.array(z.string().min(1)).default([]),
    }),
  ],
  { error: 'expected the path of a checkpoint, or { path, allow }' },
);

/** Which weights a run starts from. */
export interface Start {
  path: string;
  allow?: readonly string[];
}

export const startOfSchema = (start: z.output<typeof StartSchema>): Start =>
  typeof start === 'string' ? { path: start } : start;

/** What the weights' meaning does not depend on, nor on experts' balance loss: where RoPE's scaling does on the context length, it says so itself. */
const free = ['contextLength', 'initializerRange'] as const;

/**
 * A checkpoint's weights as a model of another configuration, which may differ in what has no parameters, such as the
 * context length or a RoPE scaling.
 *
 * @param startFrom a checkpoint directory
 * @throws UserError where the checkpoint's parameters are not those of `config`, or its files are missing or damaged
 */
export async function loadStart(
  config: LlamaConfig,
  startFrom: string,
  options: LoadAsyncOptions = {},
): Promise<LlamaModel> {
  checkSameParameters(loadConfig(startFrom), config, startFrom);
  return await LlamaModel.loadAsync(startFrom, { ...options, as: config });
}

/**
 * Looks at the checkpoint's configuration and tokenizer alone.
 *
 * @throws UserError where the checkpoint is of another model or tokenizer, with both values and how to allow it
 */
export function checkStart(config: LlamaConfig, { path, allow = [] }: Start, tokenizer?: Tokenizer): void {
  const given = loadConfig(path);
  checkSameParameters(given, config, path);
  const advice = (key: string) => `allow it by startFrom: { path: ${path}, allow: [${[...allow, key].join(', ')}] }`;
  for (const difference of differences(given, config, allow)) {
    const { path: key, before, after } = difference;
    throw new UserError(
      `startFrom: model.${key} is ${say(before)} in ${path} and ${say(after)} in this configuration, under which its ` +
        `weights compute something else; ${before === undefined ? 'leave it out' : `set it to ${say(before)}`}, or ${advice(key)}.`,
    );
  }
  if (!tokenizer || allow.includes('tokenizer') || !existsSync(join(path, 'tokenizer.json'))) return;
  const own = () => openTokenizer(path);
  // A run saves a tokenizer with all that it takes to open it.
  const isSaved = existsSync(join(path, CHECKSUMS_FILE));
  if ((isSaved ? readingCheckpoint(path, own) : own()).hash === tokenizer.hash) return;
  throw new UserError(
    `startFrom: ${path} was trained with another tokenizer than ${tokenizer.path}, so its weights know other tokens; ` +
      `set tokenizer to ${path}, or ${advice('tokenizer')}.`,
  );
}

/**
 * The same, which looks at the checkpoint's files where something is wrong: a damaged one may look like another model.
 *
 * @param verify compare their checksums too, unless the files have more than `mostBytes`; default: no limit
 */
export async function checkIntactStart(
  config: LlamaConfig,
  start: Start,
  tokenizer: Tokenizer | undefined,
  verify: boolean,
  mostBytes?: number,
): Promise<void> {
  try {
    checkStart(config, start, tokenizer);
  } catch (error) {
    const verified = verify ? verifyChecksums(start.path, { modelOnly: true, mostBytes }) : undefined;
    await whileVerifying(verified, () => {
      checkModelFiles(start.path);
      throw error;
    });
  }
}

/** A model with seeded weights. Drawing a billion numbers takes a minute: several processes draw a part each. */
export async function drawModel(
  config: LlamaConfig,
  seed: number,
  collective: Collective = oneProcess,
): Promise<LlamaModel> {
  if (collective.size === 1) return LlamaModel.create(config, { seed });
  const model = LlamaModel.create(config, { seed, share: collective });
  const drawn = [...model.parameters.values()];
  const sums = await collective.sumTensors(drawn.map((one) => one.clone()));
  for (const [i, sum] of sums.entries()) {
    // A sum in place is there already.
    if (sum.dataId !== drawn[i]!.dataId) drawn[i]!.assign(sum);
    sum.dispose();
  }
  return model;
}

/** The first difference that is neither free nor allowed, if any. */
function differences(given: LlamaConfig, own: LlamaConfig, allow: readonly string[]) {
  const plain = (config: LlamaConfig) => {
    const copy = saidModel(config) as Record<string, unknown>;
    for (const key of free) delete copy[key];
    const experts = copy.experts as { balance?: number; balanceOver?: string } | undefined;
    delete experts?.balance;
    delete experts?.balanceOver;
    return copy;
  };
  const [before, after] = [plain(given), plain(own)];
  for (const key of allow) copyKey(after, before, key.replace(/^model\./, '').split('.'));
  return [firstDifference(before, after) ?? []].flat();
}

/** Makes `to` agree with `from` in one key, whatever it is there. */
function copyKey(from: Record<string, unknown>, to: Record<string, unknown>, [first, ...rest]: string[]): void {
  const [source, target] = [from[first!], to[first!]];
  const isMapping = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;
  if (rest.length > 0 && isMapping(source) && isMapping(target)) copyKey(source, target, rest);
  else if (source === undefined) delete to[first!];
  else to[first!] = source;
}

function checkSameParameters(given: LlamaConfig, own: LlamaConfig, startFrom: string): void {
  const [theirs, ours] = [parameterShapes(given), parameterShapes(own)];
  for (const name of new Set([...ours.keys(), ...theirs.keys()])) {
    const [there, here] = [theirs.get(name), ours.get(name)];
    if (there?.join() === here?.join()) continue;
    const shape = (sizes: readonly number[] | undefined) =>
      sizes ? `shape [${sizes.join(', ')}]` : 'no such parameter';
    throw new UserError(
      `startFrom: ${startFrom} is of another model: '${name}' has ${shape(there)} there and ${shape(here)} in this configuration.`,
    );
  }
}
