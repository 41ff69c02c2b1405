/** The MQRAR study: how many key-value pairs each attention can keep up to date (section 5.1, figures 3 and 4). */
import { parseConfig } from '@stickbreaking/model';
import type { Study } from '../study.js';
import { type MqrarConfig, MqrarConfigSchema } from './config.js';
import { earlierThan, planned, whySkipped } from './plan.js';
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
  whySkipped: ({ id }, results, config) => whySkipped(config, id, results),
  after: ({ id }, config) => earlierThan(config, id),
  prepare: async () => {},
  run: (arm, _config, context) => runMqrar(arm.settings as unknown as MqrarSettings, context),
  report: reportMqrar,
};
