/** Settings of a run as they are typed: how answers are generated, and which documents are scored. */
import { existsSync } from 'node:fs';
import { EXIT, shown, UserError } from '@stickbreaking/base';
import { readWhole } from '@stickbreaking/base/node';
import { z } from 'zod';
import type { TaskDefinition } from '../tasks/definition.js';
import { type GenerationSettings, GenerationSettingsSchema } from '../tasks/task.js';

const USAGE = { exitCode: EXIT.usage };

const SettingsSchema = GenerationSettingsSchema.partial();

/**
 * Settings from `max_gen_toks=64,temperature=0.7` or JSON.
 *
 * @throws UserError for an unknown key or a value that is not one
 */
export function parseGenerationSettings(text: string): Partial<GenerationSettings> {
  const given = text.trim().startsWith('{') ? json(text, '--gen-kwargs') : pairs(text);
  const { max_new_tokens, ...rest } = given as Record<string, unknown>;
  const parsed = SettingsSchema.safeParse(
    max_new_tokens === undefined ? rest : { max_gen_toks: max_new_tokens, ...rest },
  );
  if (parsed.success) return parsed.data as Partial<GenerationSettings>;
  const { path, message } = parsed.error.issues[0]!;
  const known = Object.keys(SettingsSchema.shape).join(', ');
  throw new UserError(
    `--gen-kwargs${path.length > 0 ? `, ${path.join('.')}` : ''}: ${shown(message)} (known: ${known}).`,
    USAGE,
  );
}

function pairs(text: string): Record<string, unknown> {
  const entries = text.split(',').map((pair) => {
    const at = pair.indexOf('=');
    if (at < 0) throw new UserError(`--gen-kwargs: '${shown(pair)}' is no key=value.`, USAGE);
    return [pair.slice(0, at).trim(), typedValue(pair.slice(at + 1).trim())];
  });
  return Object.fromEntries(entries);
}

/** A number, a truth value or a list where it is one; any other is text. */
function typedValue(text: string): unknown {
  if (/^(?:true|false)$/i.test(text)) return text.toLowerCase() === 'true';
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/**
 * Documents by task, from JSON or a file of it.
 *
 * @throws UserError where it is none, or names a task that is not evaluated
 */
export function parseSamples(text: string, tasks: readonly TaskDefinition[]): Map<string, readonly number[]> {
  const given = json(existsSync(text) ? readWhole(text, shown(text)).toString() : text, '--samples');
  const parsed = z.record(z.string(), z.array(z.int().nonnegative())).safeParse(given);
  if (!parsed.success)
    throw new UserError('--samples expects numbers of documents by task, such as {"arc_easy":[0,5]}.', USAGE);
  const known = tasks.map(({ name }) => name);
  for (const name of Object.keys(parsed.data)) {
    if (!known.includes(name)) throw new UserError(`--samples names '${shown(name)}', which --tasks does not.`, USAGE);
  }
  return new Map(Object.entries(parsed.data));
}

function json(text: string, option: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UserError(`${option}: this is no JSON (${shown((error as Error).message)}).`, USAGE);
  }
}
