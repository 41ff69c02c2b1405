/** Running the public commands one after the other. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

const homes = { 'sb-tokenizer': 'data', 'sb-train': 'train', 'sb-eval': 'eval', 'sb-generate': 'eval' };

/** Runs a command of this project and shows what it prints; ends the quickstart where it fails. */
export function command(name, args, { capture = false } = {}) {
  const start = performance.now();
  console.log(`$ npx ${name} ${args.map((arg) => (/[\s"]/.test(arg) ? JSON.stringify(arg) : arg)).join(' ')}`);
  const { status, signal, stdout } = spawnSync(process.execPath, [`packages/${homes[name]}/bin/${name}.js`, ...args], {
    stdio: ['inherit', capture ? 'pipe' : 'inherit', 'inherit'],
    encoding: 'utf8',
  });
  if (capture) process.stdout.write(stdout);
  if (status !== 0) {
    console.error(
      `\nThe quickstart stopped: ${name} ended with ${status ?? signal}. Run it again to go on from here, or remove quickstart/ to begin anew.`,
    );
    process.exit(status ?? 1);
  }
  console.log(`(${seconds(start)} s)`);
  return stdout;
}

export function seconds(start) {
  return ((performance.now() - start) / 1000).toFixed(1);
}
