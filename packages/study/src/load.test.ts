import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { ids as extensionIds } from './extension/report.js';
import { ids as extrapolationIds } from './extrapolation/report.js';
import { loadStudy } from './load.js';
import { ids as mqrarIds } from './mqrar/arms.js';
import { ids as speedIds } from './speed/report.js';

const folder = fileURLToPath(new URL('../../../configs/studies', import.meta.url));
const files = readdirSync(folder);

const kindOf = (file: string) => loadStudy(`${folder}/${file}`).config.study;
const ofThePaper = files.filter((file) => kindOf(file) !== 'comparison');

it('has a small and a full file for every study of the paper', () => {
  const kinds = ['context-extension', 'length-extrapolation', 'mqrar', 'speed'];
  const both = kinds.flatMap((kind) => [`${kind}-full.yaml`, `${kind}-small.yaml`]);
  expect(ofThePaper).toEqual(expect.arrayContaining(both));
  for (const file of ofThePaper) expect(file.startsWith(kindOf(file))).toBe(true);
});

it.each(files)('%s can be run', (file) => {
  const { study, config } = loadStudy(`${folder}/${file}`);
  expect(loadStudy(file.replace('.yaml', '')).config).toEqual(config);
  expect(study.arms(config).length).toBeGreaterThan(4);
});

const findingsKnow: Record<string, Record<string, string>> = {
  'context-extension': extensionIds,
  'length-extrapolation': extrapolationIds,
  mqrar: mqrarIds,
  speed: speedIds,
};
it.each(ofThePaper)('%s has the arms that its findings are about', (file) => {
  const { config } = loadStudy(`${folder}/${file}`);
  const { arms } = config as unknown as { arms: { id: string }[] };
  const known = Object.values(findingsKnow[config.study]!);
  expect(arms.map(({ id }) => id)).toEqual(expect.arrayContaining(known));
});
