// npm run torture -- [--count KILLS] [--seed N] [--jobs N] [--case N [--kills LIST]] [--keep FOLDER]
// Kills a small training or study by SIGKILL at changes to the file system and at random moments, goes on with it, and
// compares every checkpoint, metric and result with those of a run that nobody stopped; several processes at once take the lock that a
// killed one left. A case that fails is made as small as it gets and kept with the command that shows it again.
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { scratchFolder } from './fuzz/scratch.mjs';
import { planOf, runCase } from './torture/cases.mjs';
import { makeReference } from './torture/reference.mjs';

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    count: { type: 'string', default: '100' },
    jobs: { type: 'string', default: '2' },
    case: { type: 'string' },
    kills: { type: 'string' },
    keep: { type: 'string', default: 'torture-failures' },
  },
});
const seed = Number(values.seed);
const base = scratchFolder('torture');
const reference = await makeReference(base);

const only = values.case === undefined ? undefined : Number(values.case);
const count = Number(values.count);
const started = performance.now();
let next = only ?? 0;
let cases = 0;
let kills = 0;
let bad = 0;

function planned(number) {
  const plan = planOf({ seed, number }, reference);
  return values.kills === undefined ? plan : { ...plan, kills: values.kills.split(',').filter(Boolean) };
}

/** Leaves out kills as long as something is still wrong. */
async function smaller(plan, place) {
  let found = plan;
  for (let i = 0; found.kills.length > 1 && i < found.kills.length; ) {
    const without = { ...found, kills: found.kills.toSpliced(i, 1) };
    const { faults } = await runCase(without, place, reference);
    if (faults.length > 0) found = without;
    else i++;
  }
  return found;
}

async function keep(number, plan, place, faults) {
  const small = await smaller(plan, place);
  const again = `npm run torture -- --seed ${seed} --case ${number} --kills ${small.kills.join(',')}`;
  const { faults: last } = await runCase(small, place, reference);
  const kept = resolve(values.keep, `${seed}-${number}`);
  mkdirSync(kept, { recursive: true });
  cpSync(place.folder, join(kept, 'files'), { recursive: true });
  const text = [...(last.length > 0 ? last : faults), '', JSON.stringify(small), again].join('\n');
  writeFileSync(join(kept, 'case.txt'), `${text}\n`);
  console.log(`${JSON.stringify(plan)}\n  ${faults.join('\n  ')}\n  kept in ${kept}\n  ${again}`);
}

let isStopped = false;
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, () => {
    isStopped = true;
  });

async function work(job) {
  const place = { base, folder: join(base, `case-${job}`) };
  while (!isStopped && (only === undefined ? kills < count : cases === 0)) {
    const number = next++;
    cases++;
    const plan = planned(number);
    const result = await runCase(plan, place, reference);
    if (Math.floor((kills + result.kills) / 50) > Math.floor(kills / 50))
      console.log(`${kills + result.kills} kills, ${bad} faults`);
    kills += result.kills;
    if (result.faults.length === 0) continue;
    bad++;
    await keep(number, plan, place, result.faults);
  }
}

const { 'sb-train': run, 'sb-study': study } = reference.changes;
console.log(`seed ${seed}; a run that nobody stops makes ${run} changes to the file system, a study ${study}`);
await Promise.all(Array.from({ length: only === undefined ? Number(values.jobs) : 1 }, (_, job) => work(job)));
const seconds = ((performance.now() - started) / 1000).toFixed(0);
console.log(`${kills} kills in ${cases} cases in ${seconds} s, ${bad} of them faults`);
process.exitCode = bad > 0 ? 1 : 0;
