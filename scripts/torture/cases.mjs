// From a seed and a number to a case: which command is killed where, again and again, and what must hold afterwards.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { seededRandom } from '@stickbreaking/base';
import { start } from './processes.mjs';
import {
  hashesUnder,
  lookAt,
  lookAtStudy,
  metricsOf,
  studyArguments,
  tokenizerArguments,
  trainArguments,
} from './reference.mjs';

/** Of eleven cases: a run that is gone on with, takers of the lock that a killed run left, a tokenizer, a study. */
const KINDS = ['run', 'run', 'study', 'takers', 'run', 'run', 'tokenizer', 'run', 'run', 'takers', 'run'];
const COMMANDS = { run: 'sb-train', takers: 'sb-train', tokenizer: 'sb-tokenizer', study: 'sb-study' };
/** What may stand in a lock's file that nobody holds; `pid` lives, and is another program's. */
const ODD_LOCKS = [
  ...['', '{}', 'null', '{"pid": 1', '[]'],
  JSON.stringify({ pid: process.pid, host: hostname() }),
  JSON.stringify({ pid: process.pid, host: hostname(), boot: null, start: '1' }),
];

/** @returns `{ kind, kills, lock?, noLocks? }` */
export function planOf({ seed, number }, { changes }) {
  const random = seededRandom(seed, `case ${number}`);
  const pick = (list) => list[random.integer(list.length)];
  const kind = KINDS[number % KINDS.length];
  const total = changes[COMMANDS[kind]];
  // The first kills of many cases go through every change, in an order that soon covers all parts.
  const first = 1 + ((number * strideOf(total) + Math.floor(number / total) + seed) % total);
  const later = () => `${1 + random.integer(total)}${pick('bhac')}`;
  const sooner = () => `${200 + random.integer(1000)}ms`;
  const kills = [`${first}${pick('bhac')}`];
  const isRepeated = kind === 'run' || kind === 'study';
  const count = isRepeated ? pick([0, 1, 1, 2, 3]) : 0;
  for (let i = 0; i < count; i++) kills.push(pick([later, later, sooner])());
  if (isRepeated && random.integer(6) === 0) kills[0] = sooner();
  const noLocks = kind !== 'tokenizer' && random.integer(4) === 0;
  const lock = !noLocks && random.integer(4) === 0 ? pick(ODD_LOCKS) : undefined;
  return { kind, kills, lock, noLocks };
}

/** Near the golden section of `total`, and without a common divisor. */
function strideOf(total) {
  const gcd = (a, b) => (b === 0 ? a : gcd(b, a % b));
  let stride = Math.max(1, Math.round(total * 0.618));
  while (gcd(stride, total) > 1) stride++;
  return stride;
}

/**
 * @param place `{ base, folder }`: the fixtures, and the case's own folder
 * @returns `{ kills, faults }`: how many processes were killed, and what is wrong
 */
export async function runCase(plan, place, reference) {
  rmSync(place.folder, { recursive: true, force: true });
  mkdirSync(place.folder, { recursive: true });
  const run = { tokenizer, study }[plan.kind] ?? training;
  return run(plan, place, reference);
}

async function study({ kills, lock, noLocks }, { base, folder }, reference) {
  const faults = [];
  const args = studyArguments(base, folder);
  const options = { noLocks, stash: `${folder}.stash` };
  let killed = 0;
  for (const kill of kills) {
    const ended = await start('sb-study', args, kill, options);
    if (ended.signal !== 'SIGKILL' && ended.code !== 0) faults.push(`cannot go on: ${lastLine(ended.stderr)}`);
    if (ended.signal !== 'SIGKILL') break;
    killed++;
    // A result that is there is whole, and right.
    for (const [name, found] of Object.entries(lookAtStudy(folder))) {
      if (name.endsWith('/result.json') && found !== reference.study[name])
        faults.push(`after a kill: ${name} is ${found}, not ${reference.study[name]}`);
    }
    const file = join(folder, 'study/.lock');
    if (lock !== undefined && existsSync(file)) writeFileSync(file, lock);
  }
  const { code, stderr } = await start('sb-study', args, undefined, options);
  if (code !== 0) faults.push(`cannot go on: ${lastLine(stderr)}`);
  const [now, right] = [lookAtStudy(folder), reference.study];
  for (const name of new Set([...Object.keys(now), ...Object.keys(right)])) {
    if (now[name] !== right[name]) faults.push(`in the end study/${name} is ${now[name]}, not ${right[name]}`);
  }
  rmSync(options.stash, { recursive: true, force: true });
  return { kills: killed, faults };
}

async function tokenizer({ kills }, { base, folder }, reference) {
  const faults = [];
  const args = tokenizerArguments(base, folder);
  const stopped = await start('sb-tokenizer', args, kills[0], { stash: `${folder}.stash` });
  const half = lookAt(folder).tokenizer;
  if (half !== undefined && half !== reference.tokenizer) faults.push('a tokenizer.json that is not whole');
  const { code, stderr } = await start('sb-tokenizer', args);
  if (code !== 0) faults.push(`the next run fails: ${lastLine(stderr)}`);
  else if (lookAt(folder).tokenizer !== reference.tokenizer) faults.push('another tokenizer.json');
  return { kills: Number(stopped.signal === 'SIGKILL'), faults };
}

async function training(plan, { base, folder }, reference) {
  const faults = [];
  const args = trainArguments(base, folder);
  const options = {
    noLocks: plan.noLocks,
    stash: `${folder}.stash`,
    trace: `${folder}.trace`,
    within: join(folder, 'run'),
  };
  let kills = 0;
  let newest = 0;
  rmSync(options.trace, { force: true });
  for (const kill of plan.kills) {
    const ended = await start('sb-train', args, kill, options);
    if (ended.signal !== 'SIGKILL' && ended.code !== 0) faults.push(`cannot go on: ${lastLine(ended.stderr)}`);
    if (ended.signal !== 'SIGKILL') break;
    kills++;
    newest = checkWhatIsLeft(folder, newest, reference, faults);
    const lock = join(folder, 'run/.lock');
    if (plan.lock !== undefined && existsSync(lock)) writeFileSync(lock, plan.lock);
  }
  const takers = plan.kind === 'takers' ? 3 : 1;
  const ends = await Promise.all(Array.from({ length: takers }, () => start('sb-train', args, undefined, options)));
  checkTakers(ends, options.trace, faults);
  checkSame(lookAt(folder), reference, faults);
  for (const path of [options.trace, options.stash]) rmSync(path, { recursive: true, force: true });
  return { kills, faults };
}

/** After a kill: what is called a checkpoint is whole, none is lost, and no step of it lacks its metrics. */
function checkWhatIsLeft(folder, newestBefore, reference, faults) {
  const checkpoints = join(folder, 'run/checkpoints');
  const found = hashesUnder(checkpoints);
  const steps = Object.keys(reference.checkpoints)
    .map((name) => name.split('/')[0])
    .filter((name) => name.startsWith('step-') && existsSync(join(checkpoints, name)));
  for (const step of new Set(steps)) {
    const names = (hashes) => Object.keys(hashes).filter((name) => name.startsWith(`${step}/`));
    const files = new Set([...names(reference.checkpoints), ...names(found)]);
    for (const name of files)
      if (found[name] !== reference.checkpoints[name]) faults.push(`after a kill: ${name} is not as it should be`);
  }
  const newest = Math.max(0, ...steps.map((name) => Number(name.slice(5))));
  if (newest < newestBefore) faults.push(`the checkpoint of step ${newestBefore} is lost; the newest is ${newest}`);
  const saved = reference.metrics.filter((line) => JSON.parse(line).step <= newest);
  const lines = metricsOf(folder);
  saved.forEach((line, i) => {
    if (lines[i] !== line) faults.push(`after a kill: line ${i + 1} of metrics.jsonl is ${lines[i]}, not ${line}`);
  });
  return newest;
}

/** One works, and the others are refused or come when it is done; two never work at once. */
function checkTakers(ends, trace, faults) {
  const done = ends.filter(({ code }) => code === 0);
  if (done.length === 0) faults.push(`cannot go on: ${ends.map(({ stderr }) => lastLine(stderr)).join(' | ')}`);
  for (const { code, signal, stderr } of ends) {
    const isRefused = code === 1 && /Another process .*holds .*\.lock/.test(lastLine(stderr));
    if (code !== 0 && !isRefused) faults.push(`a taker ends with ${signal ?? code}: ${lastLine(stderr)}`);
  }
  const changes = existsSync(trace) ? readFileSync(trace, 'utf8').trim().split('\n') : [];
  const turns = changes.filter((pid, i) => pid !== changes[i - 1]);
  if (new Set(turns).size < turns.length) faults.push(`processes took turns in one folder: ${turns.join(', ')}`);
}

function checkSame(found, reference, faults) {
  for (const part of ['run', 'tokens']) {
    for (const name of new Set([...Object.keys(found[part]), ...Object.keys(reference[part])])) {
      const [now, right] = [found[part][name], reference[part][name]];
      if (now === right) continue;
      const what = right === undefined ? 'should not be there' : now === undefined ? 'is missing' : 'has other bytes';
      faults.push(`in the end ${part}/${name} ${what}`);
    }
  }
  const [now, right] = [found.metrics, reference.metrics];
  const line = Array.from({ length: Math.max(now.length, right.length) }).findIndex((_, i) => now[i] !== right[i]);
  if (line >= 0) faults.push(`in the end line ${line + 1} of metrics.jsonl is ${now[line]}, not ${right[line]}`);
}

const lastLine = (text) => text.trimEnd().split('\n').slice(-12).join(' | ');
