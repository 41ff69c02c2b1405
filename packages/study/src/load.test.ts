import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { ids as extensionIds } from './extension/report.js';
import { ids as extrapolationIds } from './extrapolation/report.js';
import { loadStudy } from './load.js';
import { ids as mqrarIds } from './mqrar/report.js';
import { ids as speedIds } from './speed/report.js';

const folder = fileURLToPath(new URL('../../../configs/studies', import.meta.url));
const files = readdirSync(folder);

it('has a small and a full file for every study', () => {
  const kinds = ['context-extension', 'length-extrapolation', 'mqrar', 'speed'];
  expect(files.sort()).toEqual(kinds.flatMap((kind) => [`${kind}-full.yaml`, `${kind}-small.yaml`]));
});

it.each(files)('%s can be run', (file) => {
  const { study, config } = loadStudy(`${folder}/${file}`);
  expect(loadStudy(file.replace('.yaml', '')).config).toEqual(config);
  expect(file.startsWith(config.study)).toBe(true);
  expect(study.arms(config).length).toBeGreaterThan(4);
});

const findingsKnow: Record<string, Record<string, string>> = {
  'context-extension': extensionIds,
  'length-extrapolation': extrapolationIds,
  mqrar: mqrarIds,
  speed: speedIds,
};
it.each(files)('%s has the arms that its findings are about', (file) => {
  const { config } = loadStudy(`${folder}/${file}`);
  const { arms } = config as unknown as { arms: { id: string }[] };
  const known = Object.values(findingsKnow[config.study]!);
  expect(arms.map(({ id }) => id)).toEqual(expect.arrayContaining(known));
});
