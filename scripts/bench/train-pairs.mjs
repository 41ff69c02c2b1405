// Training on the CPU beside another checkout's build: steps of the quickstart's models by each in turn, and the median of the pairs'
// ratios of wall time. For a machine that does nothing else.
// Usage: node scripts/bench/train-pairs.mjs --baseline FOLDER [--pairs 8] [--steps 25] [--name train-pairs]
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median } from '@stickbreaking/base';
import { machine, writeReport } from './measure.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { values: o } = parseArgs({
  options: {
    baseline: { type: 'string' },
    pairs: { type: 'string', default: '8' },
    steps: { type: 'string', default: '25' },
    name: { type: 'string', default: 'train-pairs' },
  },
});
if (!o.baseline) {
  console.error('usage: npm run bench -- train-pairs --baseline FOLDER [--pairs 8] [--steps 25]');
  process.exit(1);
}
const folders = { baseline: o.baseline, ours: root };
const results = [];
for (const config of ['quickstart-stick-breaking', 'quickstart-softmax-rope']) {
  const runs = { baseline: [], ours: [] };
  for (let pair = 0; pair < Number(o.pairs); pair++)
    for (const [name, folder] of Object.entries(folders)) {
      const args = [join(root, 'scripts/bench/train-pairs/run.mjs'), folder, config, o.steps];
      runs[name].push(JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' })));
    }
  const ratios = runs.baseline.map(({ wall }, i) => wall / runs.ours[i].wall);
  const rate = (name) => median(runs[name].map(({ tokens, wall }) => tokens / wall));
  const result = { config, ratio: median(ratios), ratios, tokensPerSecond: rate('ours'), baseline: rate('baseline') };
  results.push({ ...result, runs });
  console.log(
    `${config}: ${result.tokensPerSecond.toFixed(0)} tokens/s, baseline ${result.baseline.toFixed(0)}, median of the pairs' ratios ${result.ratio.toFixed(2)}`,
  );
}
writeReport(o.name, { ...machine('native'), command: 'npm run bench -- train-pairs', results });
