/** Reading single keys of Hugging Face's `config.json`: each is checked, and a message names it as the file does. */
import { shown, UserError } from '@stickbreaking/base';
import { z } from 'zod';

export type Json = Record<string, unknown>;

/**
 * The key's value.
 *
 * @throws UserError that names file and key if the value does not fit the schema
 */
export function readKey<Schema extends z.ZodType>(
  json: Json,
  file: string,
  key: string,
  schema: Schema,
): z.output<Schema> {
  const result = schema.safeParse(json[key]);
  if (result.success) return result.data;
  const { message } = result.error.issues[0]!;
  if (json[key] === undefined) throw new UserError(`${file}: ${key} is missing.`);
  throw new UserError(`${file}: ${key} is ${say(json[key])}: ${message}.`);
}

/** Refuses keys whose value is none of those that change nothing; a key that is absent or null changes nothing. */
export function refuseOthers(json: Json, file: string, harmless: Readonly<Record<string, readonly unknown[]>>): void {
  for (const [key, values] of Object.entries(harmless)) {
    const value = json[key] ?? null;
    if (value === null || values.includes(value)) continue;
    const only = values.length > 0 ? `; only ${values.map(say).join(' or ')} is` : '';
    throw new UserError(`${file}: ${key} is ${say(value)}, which is not supported${only}.`);
  }
}

/** A key that `transformers` writes as true or false; absent, it has the default. */
export const flag = (byDefault: boolean) =>
  z
    .boolean()
    .nullish()
    .transform((value) => value ?? byDefault);

/** A value of the file as a message shows it. */
export const say = (value: unknown) => shown(JSON.stringify(value) ?? String(value));
