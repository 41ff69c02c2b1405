/** Reads a study's YAML file: the key `study` says which, and its own schema checks the rest. */
import { UserError } from '@stickbreaking/base';
import { readYaml, ShippedFiles } from '@stickbreaking/base/node';
import { z } from 'zod';
import { comparisonStudy } from './comparison/study.js';
import { extensionStudy } from './extension/study.js';
import { extrapolationStudy } from './extrapolation/study.js';
import { mqrarStudy } from './mqrar/study.js';
import { speedStudy } from './speed/study.js';
import type { Study, StudyConfig } from './study.js';

/** The kinds of studies that a file's key `study` may name. */
export const studies = [
  mqrarStudy,
  extrapolationStudy,
  extensionStudy,
  speedStudy,
  comparisonStudy,
] as unknown as readonly Study[];

/** The study files that come with this package. */
export const shippedStudies = new ShippedFiles(import.meta.url, 'configs/studies');
/** A study file may extend one of them, or another of the user's. */
const composed = { composed: shippedStudies };

/**
 * @param given the path of a study's file, or the name of one that comes with this package, such as `mqrar-small`
 * @throws UserError with file, line and key
 */
export function loadStudy(given: string, overrides: readonly string[] = []): { study: Study; config: StudyConfig } {
  const file = shippedStudies.find(given);
  const names = studies.map(({ kind }) => kind);
  const Kind = z.looseObject({ study: z.enum(names, { error: `expected one of ${names.join(', ')}` }) });
  const { study: name } = readYaml(file, Kind, { ...composed, overrides });
  const study = studies.find(({ kind }) => kind === name)!;
  const config = readYaml(file, study.schema, { ...composed, overrides });
  const ids = study.arms(config).map(({ id }) => id);
  const twice = ids.find((id, i) => ids.indexOf(id) !== i);
  if (twice !== undefined)
    throw new UserError(
      `${file}: two arms are called '${twice}'; give each its own name or id, and name each learning rate or recipe once.`,
    );
  return { study, config };
}
