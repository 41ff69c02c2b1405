// What is mutated, with which command it is tried, and how one sees that a mutation was swallowed. A surface is a
// function of a case's tools that returns `{ command, args, accepted }`; `accepted` says what is wrong with an exit code
// of 0, if anything.
import { commands } from './surfaces/commands.mjs';
import { models } from './surfaces/models.mjs';
import { requests } from './surfaces/requests.mjs';
import { runs } from './surfaces/runs.mjs';
import { taskFolders } from './surfaces/task_folders.mjs';
import { tasks } from './surfaces/tasks.mjs';
import { text } from './surfaces/text.mjs';

export const surfaces = { ...runs, ...models, ...text, ...commands, ...tasks, ...taskFolders, ...requests };
