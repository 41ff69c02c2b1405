/** Tasks as a user names them: by name, group or glob. */
import { shown, UserError } from '@stickbreaking/base';
import type { GroupDefinition, TaskDefinition } from './definition.js';
import type { Suite } from './suite/index.js';

/** What a list of names means. */
export interface ResolvedTasks {
  /** Each once, in the order named. */
  tasks: readonly TaskDefinition[];
  /** Groups that were named, each before the groups in it. */
  groups: readonly GroupDefinition[];
}

/**
 * @param names separated by commas or white space; `*` stands for any characters
 * @throws UserError that lists the unknown ones, each with the nearest name, or where a group contains itself
 */
export function resolveTasks(suite: Suite, names: string): ResolvedTasks {
  const known = [...suite.tasks.keys(), ...suite.groups.keys(), ...(suite.refused?.keys() ?? [])];
  const wanted = names.split(/[\s,]+/).filter((name) => name !== '');
  if (wanted.length === 0) throw new UserError('--tasks names no task; `sb-eval tasks` lists them.');
  const unknown: string[] = [];
  const tasks = new Map<string, TaskDefinition>();
  const groups = new Map<string, GroupDefinition>();
  const add = (name: string, within: readonly string[] = []) => {
    if (within.includes(name)) {
      const way = [...within.slice(within.indexOf(name)), name].map((one) => shown(one));
      throw new UserError(
        `the group '${shown(name)}' contains itself (${way.join(' > ')}); name a group or a tag otherwise.`,
      );
    }
    const task = suite.tasks.get(name);
    const refused = suite.refused?.get(name);
    if (refused) throw refused;
    if (task) tasks.set(name, task);
    const group = suite.groups.get(name);
    if (!group || groups.has(name)) return;
    groups.set(name, group);
    for (const member of group.members) add(member, [...within, name]);
  };
  for (const name of wanted) {
    const found = known.filter(matcher(name));
    if (found.length === 0) unknown.push(name);
    // A glob means tasks; a group among what it matches would bring its tasks once more.
    for (const one of found) if (one === name || suite.tasks.has(one) || suite.refused?.has(one)) add(one);
  }
  if (unknown.length > 0) throw unknownTasks(unknown, known);
  return { tasks: [...tasks.values()], groups: [...groups.values()] };
}

function matcher(pattern: string): (name: string) => boolean {
  if (!/[*?]/.test(pattern)) return (name) => name === pattern;
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  const expression = new RegExp(`^${source}$`);
  return (name) => expression.test(name);
}

function unknownTasks(unknown: readonly string[], known: readonly string[]): UserError {
  const each = unknown.map((name) => `'${shown(name)}' (did you mean '${nearest(name, known)}'?)`);
  const what = unknown.length === 1 ? 'no task or group is called' : 'no tasks or groups are called';
  return new UserError(`${what} ${each.join(', ')}; \`sb-eval tasks\` lists them.`);
}

/** The name that the fewest changed letters away. */
function nearest(name: string, known: readonly string[]): string {
  const ranked = known.map((one) => ({ one, distance: distance(name.toLowerCase(), one) }));
  return ranked.reduce((best, next) => (next.distance < best.distance ? next : best)).one;
}

/** Levenshtein's distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}
