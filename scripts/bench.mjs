// `pnpm bench NAME`: measures this project on this machine; each bench is a program of its own under scripts/bench/.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const benches = {
  cpu: 'the native CPU backend: matrix products, attention, a training step with its profile, long contexts',
  cuda: 'the CUDA kernels against their references',
  'cuda-train': 'a training step of the 1B model on one GPU',
};
const files = { cpu: 'cpu.mjs', cuda: 'cuda-check.mjs', 'cuda-train': 'cuda-train.mjs' };

const [name, ...options] = process.argv.slice(2);
if (!Object.hasOwn(files, name ?? '')) {
  console.error(
    `usage: pnpm bench NAME [options]\n${Object.entries(benches)
      .map(([one, what]) => `  ${one.padEnd(11)} ${what}`)
      .join('\n')}`,
  );
  process.exit(name === '--help' ? 0 : 1);
}
const program = fileURLToPath(new URL(`bench/${files[name]}`, import.meta.url));
process.exit(spawnSync(process.execPath, [program, ...options], { stdio: 'inherit' }).status ?? 1);
