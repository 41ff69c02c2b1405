// From a surface, a seed and a number to a case, and from a case to what came of it.
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { commands as boardCommands } from '@stickbreaking/board/commands';
import { commands as dataCommands } from '@stickbreaking/data/commands';
import { Evaluator } from '@stickbreaking/eval';
import { commands as evalCommands } from '@stickbreaking/eval/commands';
import { commands as serveCommands } from '@stickbreaking/serve/commands';
import { commands as studyCommands } from '@stickbreaking/study/commands';
import { commands as trainCommands } from '@stickbreaking/train/commands';
import { makeFixtures, makeMoreFixtures } from './fixtures.mjs';
import { judge } from './judge.mjs';
import { chooser, mutationsOf } from './random.mjs';
import { request } from './request.mjs';
import { runHere } from './run_here.mjs';
import { surfaces } from './surfaces.mjs';

/** Runs may score tasks, as they may where the package that brings all commands starts them. */
const taskScorer = async () => (options) => Evaluator.open(options);

export const commands = {
  ...dataCommands,
  'sb-train': (args) => trainCommands['sb-train'](args, { taskScorer }),
  ...evalCommands,
  ...studyCommands,
  ...boardCommands,
  ...serveCommands,
  request,
};

let base;

/** @param folder of fixtures; made there by the first process, which says so by `make` */
export async function setUp({ folder, make }) {
  base = folder;
  if (!make) return;
  await makeFixtures(folder, commands);
  await makeMoreFixtures(folder, commands);
}

/**
 * Runs a case in a folder of its own, which stays where `keep` says so.
 *
 * @param one `{ surface, seed, number, mutations?, keep? }`
 * @returns `{ class, detail, command, mutations }`
 */
export async function runCase(one) {
  const { variant, mutations: all } = mutationsOf(one);
  const mutations = one.mutations ?? all;
  const folder = one.keep ?? join(base, `case-${process.pid}`);
  const fresh = () => {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
  };
  fresh();
  const { command, args, accepted } = await surfaces[one.surface]({
    base,
    folder,
    choose: chooser(variant),
    mutations,
    fresh,
    copy: (name, as = name) => cpSync(join(base, name), join(folder, as), { recursive: true }),
    run: (name, given) => runHere(commands[name], given),
  });
  process.chdir(folder); // a file that is named without a folder lands in the case's
  const ended = await runHere(commands[command], args);
  process.chdir(base);
  const verdict = judge(ended, accepted);
  if (!one.keep) rmSync(folder, { recursive: true, force: true });
  return { ...verdict, command: [command, ...args], mutations };
}
