/** What a continuation was made with: a file of them is gone on with under the same settings alone. */
import { EXIT, shown, UserError } from '@stickbreaking/base';
import { hashOfModel, type OpenedCheckpoint } from '../checkpoint.js';
import { type GenerateArguments, samplingFrom } from './options.js';

/** By name; of the model, the beginning of its hash. */
export type Settings = Readonly<Record<string, unknown>>;

export function settingsOf(args: GenerateArguments, opened: OpenedCheckpoint): Settings {
  const { maxNewTokens, seed, stop, echo = false, logprobs } = args;
  return {
    model: hashOfModel(opened).digest('hex').slice(0, 16),
    ...{ ...samplingFrom(args), maxNewTokens, seed, stop, stopTokens: [...opened.tokenizer.stopIds], echo },
    ...(logprobs === undefined ? {} : { logprobs }),
  };
}

/**
 * Holds what an output file has to the settings of now; a file of an earlier version does not say its own.
 *
 * @throws UserError that names the first setting that differs
 */
export function checkSettings(
  finished: ReadonlyMap<number, { settings?: Settings | undefined }>,
  now: Settings,
  output: string,
): void {
  for (const [index, { settings: before }] of finished) {
    if (before === undefined) continue;
    const names = [...new Set([...Object.keys(now), ...Object.keys(before)])];
    const differs = names.find((name) => JSON.stringify(now[name]) !== JSON.stringify(before[name]));
    if (differs === undefined) continue;
    throw new UserError(
      `${output}: prompt ${index} was continued with ${say(differs, before)}, not ${say(differs, now)}; name another file with --output.`,
      { exitCode: EXIT.refused },
    );
  }
}

function say(name: string, settings: Settings): string {
  const value = settings[name];
  return value === undefined ? `no ${shown(name)}` : `${shown(name)} ${shown(JSON.stringify(value))}`;
}
