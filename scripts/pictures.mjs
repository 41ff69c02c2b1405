/**
 * Draws the pictures of docs/studies.md again, from the numbers in benchmarks/ alone: `node scripts/pictures.mjs [FOLDER]`
 * writes them into docs/images, or the folder. Each is a picture of the study's report.
 */
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writePictures } from '@stickbreaking/eval';
import { studies } from '@stickbreaking/study';

const root = fileURLToPath(new URL('..', import.meta.url));
const output = process.argv[2] ?? join(root, 'docs/images');

/** By image: the study, and the picture of its report. */
const pictures = {
  'study-start': ['start-full', 'loss-by-tokens-close'],
  'study-norm': ['norm-full', 'loss-by-length-close'],
  'study-settings': ['settings-full', 'loss-by-length-close'],
  'study-width': ['width-full', 'difference-by-tokens'],
  'study-tokens': ['tokens-full', 'difference-by-tokens'],
  'study-tokens-length': ['tokens-full', 'loss-by-length-close'],
  'study-tokens-60': ['tokens-60-full', 'difference-by-tokens'],
  'study-rivals': ['rivals-full', 'loss-by-length-close'],
  'study-experts': ['experts-full', 'loss-by-tokens-close'],
  'study-length-64k': ['length-extrapolation-64k', 'loss-by-length-close'],
  'study-mqrar': ['mqrar-full', 'figure-3'],
  'study-mqrar-mixtures': ['mqrar-seeds', 'mixtures'],
  'study-extension-4096': ['context-extension-4096', 'extension-close'],
  'study-extension-4096-position': ['context-extension-4096', 'loss-by-position'],
  'study-speed': ['speed-full', 'tokens-per-second'],
  'study-crossing': ['crossing-full', 'difference-by-tokens'],
  'study-length-skipped': ['length-full', 'skipped-by-tokens'],
  'study-length-position': ['length-extrapolation-full', 'loss-by-position'],
  'study-extension-position': ['context-extension-full', 'loss-by-position'],
};

const read = (path) => JSON.parse(readFileSync(join(root, 'benchmarks', path), 'utf8'));

function reportOf(name) {
  const published = read(`studies/${name}.json`);
  const study = studies.find(({ kind }) => kind === published.study);
  const results = published.arms.map(({ id, result }) => [id, study.result.parse(result)]);
  return study.report(study.schema.parse(published.configuration), new Map(results));
}

const drawn = mkdtempSync(join(tmpdir(), 'pictures-'));
try {
  for (const [image, [study, picture]] of Object.entries(pictures)) {
    const { title, blocks } = reportOf(study);
    await writePictures(join(drawn, study), { title, blocks });
    copyFileSync(join(drawn, study, `${picture}.svg`), join(output, `${image}.svg`));
    console.log(`${image}.svg: ${picture} of ${study}`);
  }
} finally {
  rmSync(drawn, { recursive: true, force: true });
}
