// `node scripts/page/build.mjs board|web …`: builds the pages of these packages, each as one HTML file in the package's dist.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle, pageOf } from './bundle.mjs';
import { webPage } from './web.mjs';

const packages = fileURLToPath(new URL('../../packages', import.meta.url));

async function boardPage() {
  const folder = `${packages}/board/page`;
  return pageOf(folder, await bundle(folder, 'main.tsx'));
}

/** By package: where its page goes, and what makes it. */
const pages = { board: ['dist/page.html', boardPage], web: ['dist/model.html', webPage] };

for (const name of process.argv.slice(2)) {
  const [file, make] = pages[name];
  const path = `${packages}/${name}/${file}`;
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, await make());
}
