/** Task files of lm-evaluation-harness as tasks of the suite. What points to Python is refused by name. */
import { readdirSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { explainSystemError, shown, UserError } from '@stickbreaking/base';
import { parseYaml, readWhole } from '@stickbreaking/base/node';
import { z } from 'zod';
import type { GroupDefinition, TaskDefinition } from '../definition.js';
import type { Suite } from '../suite/index.js';
import { definitionOf } from './define.js';
import { GroupFileSchema, TaskFileSchema } from './schema.js';

/**
 * The suite with the tasks and groups of files, which go before its own of the same name.
 *
 * @param paths task files, or folders of them; of a folder, files that define neither a task nor a group are left out, and one that
 *   cannot be used is refused when its task is asked for
 * @throws UserError that names file, line and field
 */
export function withTaskFiles(suite: Suite, paths: readonly string[]): Suite & { added: string[] } {
  const tasks = new Map(suite.tasks);
  const groups = new Map(suite.groups);
  const refused = new Map(suite.refused);
  const added: string[] = [];
  for (const path of paths.flatMap(filesAt)) {
    const found = path.named ? readTaskFile(path.file) : readUnlessRefused(path.file, refused);
    if (found === 'refused') continue;
    if (!found) {
      if (path.named) throw new UserError(`${shown(path.file)} defines no task: it has neither 'task' nor 'group'.`);
      continue;
    }
    if ('members' in found) groups.set(found.name, found);
    else tasks.set(found.name, found);
    refused.delete(found.name);
    added.push(found.name);
    for (const tag of tagsOf(path.file)) {
      const before = groups.get(tag);
      groups.set(tag, { name: tag, members: [...(before?.members ?? []), found.name] });
    }
  }
  return { tasks, groups, refused, added };
}

function filesAt(path: string): { file: string; named: boolean }[] {
  if (/\.ya?ml$/.test(path)) return [{ file: resolve(path), named: true }];
  try {
    const names = readdirSync(path, { recursive: true }).map(String).sort();
    const files = names.filter((name) => /\.ya?ml$/.test(name) && !/(^|[/\\])_/.test(name));
    return files.map((name) => ({ file: resolve(path, name), named: false }));
  } catch (error) {
    throw explainSystemError(error, `cannot read ${shown(path)}`);
  }
}

const anything = z.record(z.string(), z.unknown());

const IncludingSchema = z.looseObject({
  include: z
    .union([z.string(), z.array(z.string())], { error: 'expected the name of a file, or a list of names' })
    .default([]),
});

/** A file with those that it includes, which its own fields go before. */
function fieldsOf(file: string, seen: readonly string[] = []): Record<string, unknown> {
  if (seen.includes(file)) throw new UserError(`${shown(file)} includes itself.`);
  const text = readWhole(file).toString();
  const python = /^[ \t-]*([\w]+)[ \t]*:[ \t]*!function[ \t]+(\S+)/m.exec(text);
  if (python) {
    throw new UserError(
      `${shown(file)}: ${python[1]} is the Python function ${shown(python[2]!)}, which cannot run here; write the task with defineTask.`,
    );
  }
  const { include, ...rest } = parseYaml(text, file, IncludingSchema);
  const bases = [include].flat().map((base) => fieldsOf(resolve(dirname(file), base), [...seen, file]));
  return Object.assign({}, ...bases, rest);
}

function readTaskFile(file: string): TaskDefinition | GroupDefinition | undefined {
  const fields = fieldsOf(file);
  const own = readWhole(file).toString();
  const isWhole = parseYaml(own, file, anything).include === undefined;
  // Put together from several files, a field has no line: on one line all are on the first.
  const text = isWhole ? own : JSON.stringify(fields);
  const checked = <Schema extends z.ZodType>(schema: Schema) => parseYaml(text, file, schema);
  if (typeof fields.group === 'string' && Array.isArray(fields.task)) return groupOf(checked(GroupFileSchema));
  if (typeof fields.task === 'string') return definitionOf(checked(TaskFileSchema), file);
  return undefined;
}

/** A file of a folder: what keeps its task from being used is kept with the task's name. */
function readUnlessRefused(file: string, refused: Map<string, UserError>): ReturnType<typeof readTaskFile> | 'refused' {
  try {
    return readTaskFile(file);
  } catch (error) {
    const name = /^(?:group|task)[ \t]*:[ \t]*["']?([^\s"'#]+)/m.exec(readWhole(file).toString())?.[1];
    if (!(error instanceof UserError) || name === undefined) throw error;
    refused.set(name, error);
    return 'refused';
  }
}

function tagsOf(file: string): string[] {
  return [fieldsOf(file).tag ?? []].flat().map(String);
}

function groupOf({
  group,
  group_alias,
  task,
  aggregate_metric_list,
  metadata,
}: z.output<typeof GroupFileSchema>): GroupDefinition {
  return {
    name: group,
    ...(group_alias ? { alias: group_alias } : {}),
    version: Number(metadata?.version ?? 0),
    members: task,
    aggregate: (aggregate_metric_list ?? []).map(({ metric, weight_by_size, filter_list }) => ({
      metric,
      filters: [filter_list].flat(),
      weightBySize: weight_by_size,
    })),
  };
}
