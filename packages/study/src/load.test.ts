import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import type { ExtrapolationConfig } from './extrapolation/config.js';
import { planned } from './extrapolation/plan.js';
import { names } from './extrapolation/report.js';
import { loadStudy } from './load.js';

const folder = fileURLToPath(new URL('../../../configs/studies', import.meta.url));
const files = readdirSync(folder);

it('has a small and a full file for every study', () => {
  const kinds = ['context-extension', 'length-extrapolation', 'mqrar', 'speed'];
  expect(files.sort()).toEqual(kinds.flatMap((kind) => [`${kind}-full.yaml`, `${kind}-small.yaml`]));
});

it.each(files)('%s can be run', (file) => {
  const { study, config } = loadStudy(`${folder}/${file}`);
  expect(file.startsWith(config.study)).toBe(true);
  expect(study.arms(config).length).toBeGreaterThan(4);
});

it('names the arms of length extrapolation as its findings know them', () => {
  for (const size of ['small', 'full']) {
    const { config } = loadStudy(`${folder}/length-extrapolation-${size}.yaml`);
    const arms = planned(config as unknown as ExtrapolationConfig).filter(({ seed }) => seed === 0);
    for (const name of Object.values(names)) expect(arms.map(({ arm }) => arm.name)).toContain(name);
  }
});
