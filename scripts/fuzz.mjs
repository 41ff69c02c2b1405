// pnpm fuzz [surface …] [--seed N] [--count N] [--jobs N] [--case N] [--keep FOLDER]
// Runs the project's commands on mutated inputs and counts what came of them (scripts/fuzz/judge.mjs says of which
// classes). Ctrl-C ends it with what it has counted so far. What should never come is made as small as it gets and kept
// with the command that shows it again.
import { fork } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { classes, faults } from './fuzz/judge.mjs';
import { mutationsOf } from './fuzz/random.mjs';
import { scratchFolder } from './fuzz/scratch.mjs';
import { surfaces } from './fuzz/surfaces.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    count: { type: 'string', default: '2000' },
    jobs: { type: 'string', default: '2' },
    case: { type: 'string' },
    keep: { type: 'string', default: 'fuzz-failures' },
  },
});
const seed = Number(values.seed);
const wanted = positionals.length > 0 ? positionals : Object.keys(surfaces);
for (const name of wanted) {
  if (surfaces[name]) continue;
  console.error(`There is no surface '${name}'; expected some of ${Object.keys(surfaces).join(', ')}.`);
  process.exit(1);
}

/** Longer than any case takes on a busy machine. */
const CASE_MS = 60_000;
const MOST_MEMORY = 3 * 2 ** 30;
const folder = scratchFolder('fuzz');

/** A process that runs one case after the other; a new one takes its place where a case ends it. */
class Runner {
  async start(make = false) {
    this.child = fork(fileURLToPath(new URL('fuzz/worker.mjs', import.meta.url)), {
      execArgv: ['--max-old-space-size=2000'],
      env: { ...process.env, STICKBREAKING_THREADS: '1' },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    const { ended } = await this.ask({ setup: { folder: join(folder, 'fixtures'), make } }, 300_000);
    if (ended) throw new Error(`the process that runs cases did not start: ${ended.detail}`);
  }

  ask(message, limit) {
    const { child } = this;
    return new Promise((settle) => {
      const finish = (answer) => {
        clearTimeout(timer);
        clearInterval(watch);
        child.removeAllListeners();
        settle(answer);
      };
      const stop = (detail) => {
        child.kill('SIGKILL');
        finish({ ended: { class: 'hang', detail } });
      };
      const timer = setTimeout(() => stop(`no end within ${limit / 1000} s`), limit);
      const watch = setInterval(() => memoryOf(child.pid) > MOST_MEMORY && stop('more than 3 GiB of memory'), 500);
      child.once('message', finish);
      child.once('exit', (code, signal) =>
        finish({ ended: { class: 'crash', detail: signal ?? `exit code ${code}` } }),
      );
      child.send(message);
    });
  }

  async run(one) {
    if (!this.child) await this.start();
    const { result, ended } = await this.ask({ one }, CASE_MS);
    if (ended) this.child = undefined;
    return result ?? { ...ended, command: [], mutations: one.mutations ?? mutationsOf(one).mutations };
  }

  stop() {
    this.child?.kill();
  }
}

function memoryOf(pid) {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * 4096;
  } catch {
    return 0;
  }
}

/** Leaves out mutations as long as the same comes of the rest. */
async function smaller(runner, one, found) {
  let { mutations } = found;
  for (let i = 0; mutations.length > 1 && i < mutations.length; ) {
    const without = mutations.toSpliced(i, 1);
    const verdict = await runner.run({ ...one, mutations: without });
    if (verdict.class === found.class) mutations = without;
    else i++;
  }
  return mutations;
}

/** Keeps the case's files and the command. */
async function keep(runner, one, found) {
  const place = resolve(values.keep, `${one.surface}-${one.seed}-${one.number}`);
  const mutations = await smaller(runner, one, found);
  mkdirSync(place, { recursive: true });
  const { command, detail } = await runner.run({ ...one, mutations, keep: join(place, 'files') });
  const again = `pnpm fuzz ${one.surface} --seed ${one.seed} --case ${one.number}`;
  const shown = command
    .map((word) => (/^[\w./:=,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
    .join(' ');
  writeFileSync(join(place, 'case.txt'), `${found.class}: ${detail ?? found.detail}\n\n${shown}\n\n${again}\n`);
  return { place, again };
}

const counts = new Map(wanted.map((name) => [name, Object.fromEntries(classes.map((one) => [one, 0]))]));
const only = values.case === undefined ? undefined : Number(values.case);
const count = only === undefined ? Number(values.count) : 1;
let next = 0;
let done = 0;
let bad = 0;
const started = performance.now();

let isStopped = false;
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, () => {
    isStopped = true;
  });

async function work(runner) {
  while (next < count && !isStopped) {
    const i = next++;
    const number = only ?? Math.floor(i / wanted.length);
    const one = { surface: wanted[i % wanted.length], seed, number };
    const found = await runner.run(one);
    counts.get(one.surface)[found.class]++;
    done++;
    if (done % 1000 === 0) console.log(`${done} cases, ${bad} faults`);
    if (only !== undefined) console.log(`${found.class}: ${found.detail ?? ''}\n${found.command.join(' ')}`);
    if (!faults.includes(found.class)) continue;
    bad++;
    const { place, again } = await keep(runner, one, found);
    console.log(`${found.class}, ${one.surface}: ${found.detail}\n  ${place}\n  ${again}`);
  }
  runner.stop();
}

console.log(`${count} cases of seed ${seed}: ${wanted.join(', ')}`);
const runners = Array.from({ length: Math.min(Number(values.jobs), count) }, () => new Runner());
await runners[0].start(true);
await Promise.all(runners.map(work));
const width = Math.max(...wanted.map((name) => name.length));
console.log(`${''.padEnd(width)}  ${classes.join('  ')}`);
for (const [name, row] of counts) {
  console.log(`${name.padEnd(width)}  ${classes.map((one) => String(row[one]).padStart(one.length)).join('  ')}`);
}
console.log(`${done} cases in ${((performance.now() - started) / 1000).toFixed(0)} s, ${bad} of them faults`);
process.exitCode = bad > 0 ? 1 : 0;
