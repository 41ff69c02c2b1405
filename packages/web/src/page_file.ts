/** The page: one HTML file with its scripts and styles inside, which `scripts/page/build.mjs` makes. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const file = fileURLToPath(new URL('../dist/model.html', import.meta.url));

/** The HTML of the page that runs checkpoints. */
export function readPage(): string {
  if (!existsSync(file)) throw new Error(`${file} has not been built: node scripts/page/build.mjs web builds it`);
  return readFileSync(file, 'utf8');
}
