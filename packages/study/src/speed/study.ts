/** Speed: training steps of every attention by context length, and the tiles that stick-breaking skips on real text. */
import type { Study } from '../study.js';
import { type PreparedText, prepareText } from '../text/text.js';
import { type SpeedConfig, SpeedConfigSchema } from './config.js';
import { type MeasureRequest, measureApart } from './measure.js';
import { planned, SKIPPING, type SpeedResult, SpeedResultSchema } from './plan.js';
import { reportSpeed } from './report.js';
import { skippingOnText } from './skipping.js';

export const speedStudy: Study<SpeedConfig, SpeedResult, PreparedText | undefined> = {
  kind: 'speed',
  measures: true,
  schema: SpeedConfigSchema as Study<SpeedConfig>['schema'],
  result: SpeedResultSchema,
  arms: planned,
  prepare: async ({ skipping }, context, arms) =>
    skipping && arms.some(({ id }) => id === SKIPPING) ? prepareText(skipping.text, context) : undefined,
  run: (arm, { skipping }, context, text) =>
    arm.id === SKIPPING
      ? skippingOnText(skipping!, text!, context)
      : measureApart(
          { ...(arm.settings as unknown as Omit<MeasureRequest, 'backend'>), backend: context.backend.name },
          context,
        ),
  report: reportSpeed,
};
