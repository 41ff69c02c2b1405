/** RULER's materials from files under a folder; each is read when it is first needed. */
import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { shown, UserError } from '@stickbreaking/base';
import { readWhole } from '@stickbreaking/base/node';
import { words } from '../python/text.js';
import type { RulerForm } from './context.js';
import { hotpotQuestions, type RulerMaterials, sentencesOf, squadQuestions } from './materials.js';
import { Punkt } from './punkt.js';
import { readPunkt } from './punkt_files.js';
import { pairsInOrder, wordsInOrder } from './words.js';

/** Names of each file, and where it is published. */
const files = {
  essays: [
    ['PaulGrahamEssays.json', 'essays.jsonl'],
    'made by NVIDIA/RULER, scripts/data/synthetic/json/download_paulgraham_essay.py',
  ],
  punkt: [['ortho_context.tab'], 'nltk_data, packages/tokenizers/punkt_tab.zip, its folder english'],
  nouns: [['nounlist.txt'], 'the wonderwords package, release 2.2.0, wonderwords/assets'],
  adjectives: [['adjectivelist.txt'], 'the wonderwords package, release 2.2.0, wonderwords/assets'],
  verbs: [['verblist.txt'], 'the wonderwords package, release 2.2.0, wonderwords/assets'],
  squad: [['dev-v2.0.json', 'squad.json'], 'https://rajpurkar.github.io/SQuAD-explorer'],
  hotpot: [['hotpot_dev_distractor_v1.json', 'hotpotqa.json'], 'https://hotpotqa.github.io'],
} as const satisfies Record<string, readonly [names: readonly string[], published: string]>;

/** The materials in the folder `ruler` of all data sets, at any depth. */
export function materialsIn(directory: string, form: RulerForm): RulerMaterials {
  const folder = join(directory, 'ruler');
  const names = once(() => (existsSync(folder) ? readdirSync(folder, { recursive: true }).map(String).sort() : []));
  const find = (what: keyof typeof files): string => {
    const [wanted, published]: readonly [readonly string[], string] = files[what];
    // Punkt has a folder for each language.
    const found = wanted.flatMap((name) =>
      names().filter(
        (path) =>
          basename(path) === name &&
          (what !== 'punkt' || basename(dirname(path)) === 'english' || dirname(path) === '.'),
      ),
    );
    if (found[0] !== undefined) return join(folder, found[0]);
    throw new UserError(`RULER needs ${wanted.join(' or ')} under ${shown(folder)}, as published in ${published}.`, {
      missing: true,
    });
  };
  const list = (what: 'nouns' | 'adjectives' | 'verbs') => {
    const lines = textOf(find(what)).split('\n');
    return lines.map((word) => word.trim()).filter((word) => word !== '');
  };
  const json = (what: 'squad' | 'hotpot') => parsedFile(find(what));
  const essay = once(() => words(essaysIn(find('essays'), form)));
  return {
    essay,
    sentences: sentencesOf(
      once(() => new Punkt(readPunkt(dirname(find('punkt'))))),
      essay,
    ),
    needleWords: once(() => pairsInOrder(list('adjectives'), list('nouns'))),
    allWords: once(() => wordsInOrder(list('nouns'), list('adjectives'), list('verbs'))),
    squad: once(() => squadQuestions(json('squad'))),
    hotpot: once(() => hotpotQuestions(json('hotpot'))),
  };
}

function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

const textOf = (path: string) => readWhole(path, shown(path)).toString();
const parsedFile = (path: string) => parsed(textOf(path), shown(path));

function parsed(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UserError(`${where} is no JSON (${shown((error as Error).message)}).`);
  }
}

/** One text, or one a line: NVIDIA puts them together as they are, the harness with a space between. */
function essaysIn(path: string, form: RulerForm): string {
  if (path.endsWith('.json')) return (parsedFile(path) as { text: string }).text;
  const lines = textOf(path)
    .split('\n')
    .filter((line) => line !== '');
  const essay = (line: string, i: number) => parsed(line, `${shown(path)}, line ${i + 1},`) as { text: string };
  return lines.map((line, i) => essay(line, i).text).join(form === 'harness' ? ' ' : '');
}
