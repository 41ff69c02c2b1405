/** What the published results were found to say follows from the published numbers. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { studies } from './load.js';

interface Published {
  study: string;
  configuration: unknown;
  findings: { source: string; verdict: string }[];
  arms: { id: string; result: unknown }[];
}

const folder = fileURLToPath(new URL('../../../benchmarks/studies', import.meta.url));
const verdictsOf = (findings: Published['findings']) => findings.map(({ source, verdict }) => ({ source, verdict }));

it.each(readdirSync(folder))('%s', (file) => {
  const published: Published = JSON.parse(readFileSync(`${folder}/${file}`, 'utf8'));
  const study = studies.find(({ kind }) => kind === published.study)!;
  const results = new Map(published.arms.map(({ id, result }) => [id, study.result.parse(result)]));
  const { findings } = study.report(study.schema.parse(published.configuration), results);
  expect(findings.length).toBeGreaterThan(0);
  expect(verdictsOf(findings)).toEqual(verdictsOf(published.findings));
});
