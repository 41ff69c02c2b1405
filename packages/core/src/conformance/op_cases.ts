/** The conformance suite's cases of all ops except attention. */
import type { ConformanceCase } from './case.js';
import { layerCases } from './layer_cases.js';
import { lossCases } from './loss_cases.js';
import { mixtureCases } from './mixture_cases.js';
import { normCases } from './norm_cases.js';
import { optimizerCases } from './optimizer_cases.js';
import { projectionCases } from './projection_cases.js';
import { tfjsAxisCases } from './tfjs_axis_cases.js';
import { tfjsCases } from './tfjs_cases.js';

export function opCases(): ConformanceCase[] {
  return [
    ...normCases(),
    ...layerCases(),
    ...mixtureCases(),
    ...projectionCases(),
    ...tfjsCases(),
    ...tfjsAxisCases(),
    ...lossCases(),
    ...optimizerCases(),
  ];
}
