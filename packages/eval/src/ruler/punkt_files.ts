/** The parameters of NLTK's English Punkt model as NLTK publishes them: the folder `punkt_tab/english`. */
import { join } from 'node:path';
import { shown, UserError } from '@stickbreaking/base';
import { readWhole } from '@stickbreaking/base/node';
import type { PunktParameters } from './punkt.js';

/** Their names, for those who look for them. */
export const PUNKT_FILES = ['abbrev_types.txt', 'collocations.tab', 'sent_starters.txt', 'ortho_context.tab'] as const;

/** @throws UserError where a line is none of its file */
export function readPunkt(folder: string): PunktParameters {
  const linesOf = (name: string) => {
    const lines = readWhole(join(folder, name), shown(join(folder, name)))
      .toString()
      .split(/\r?\n/);
    return lines.filter((line) => line !== '');
  };
  const [abbreviations, collocations, starters, orthography] = PUNKT_FILES.map(linesOf) as [
    string[],
    string[],
    string[],
    string[],
  ];
  return {
    abbreviations: new Set(abbreviations),
    collocations: new Set(collocations),
    sentenceStarters: new Set(starters),
    orthography: new Map(
      orthography.map((line, i) => {
        const [word, flags] = line.split('\t');
        if (flags === undefined || !/^\d+$/.test(flags)) {
          throw new UserError(
            `${shown(join(folder, PUNKT_FILES[3]))}, line ${i + 1}: expected a word, a tab and a number.`,
          );
        }
        return [word!, Number(flags)];
      }),
    ),
  };
}
