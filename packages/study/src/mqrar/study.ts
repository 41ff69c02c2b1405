/** The MQRAR study: how many key-value pairs each attention can keep up to date (section 5.1, figures 3 and 4). */
import { parseConfig } from '@stickbreaking/model';
import type { Study } from '../study.js';
import { type MqrarConfig, MqrarConfigSchema } from './config.js';
import { planned, rivals, triedOf } from './plan.js';
import { reportMqrar } from './report.js';
import { type MqrarResult, MqrarResultSchema, type MqrarSettings, runMqrar } from './run.js';
import { checkTask } from './task.js';

export const mqrarStudy: Study<MqrarConfig, MqrarResult> = {
  kind: 'mqrar',
  schema: MqrarConfigSchema as Study<MqrarConfig>['schema'],
  result: MqrarResultSchema,
  arms: (config) =>
    planned(config).map(({ id, settings }) => {
      checkTask(settings.task);
      parseConfig(settings.model);
      return { id, settings: { ...settings } };
    }),
  whySkipped: ({ id }, results, config) => {
    if (!config.stopSweepWhenSolved) return undefined;
    const solver = triedOf(rivals(config, id), results).find(
      (one) => one.id !== id && one.result.accuracy >= one.training.solvedAt,
    );
    return solver && `${solver.id} has solved the task`;
  },
  // The recipes of a task one after the other: once one has solved it, the others are skipped.
  after: ({ id }, config) => {
    if (!config.stopSweepWhenSolved) return [];
    const ids = rivals(config, id).map((one) => one.id);
    return ids.slice(0, ids.indexOf(id));
  },
  prepare: async () => {},
  run: (arm, _config, context) => runMqrar(arm.settings as unknown as MqrarSettings, context),
  report: reportMqrar,
};
