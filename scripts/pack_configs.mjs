// Run by pnpm in a package before and after it packs it: run or study files come along as a copy of the root's, with the
// schemas that their first lines name.
//   "prepack": "node ../../scripts/pack_configs.mjs copy configs", "postpack": "node ../../scripts/pack_configs.mjs remove"
import { cpSync, readdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const [action, folder] = process.argv.slice(2);
rmSync('configs', { recursive: true, force: true });
if (action === 'copy') {
  const from = fileURLToPath(new URL(`../${folder}/`, import.meta.url));
  cpSync(fileURLToPath(new URL('../configs/schemas/', import.meta.url)), 'configs/schemas/', { recursive: true });
  for (const name of readdirSync(from)) if (name.endsWith('.yaml')) cpSync(`${from}${name}`, `${folder}/${name}`);
}
