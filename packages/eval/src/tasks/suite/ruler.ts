/** RULER: how much of a long context is used (Hsieh et al. 2024), as tasks of the suite. */

import { NumpyRandom } from '../../python/numpy_random.js';
import { PythonRandom } from '../../python/random.js';
import { strip } from '../../python/text.js';
import { type RulerForm, SHUFFLE_SEED } from '../../ruler/context.js';
import { materialsIn } from '../../ruler/material_files.js';
import type { RulerMaterials } from '../../ruler/materials.js';
import { type RulerTask, rulerTasks } from '../../ruler/tasks.js';
import {
  defineTask,
  type GenerationMetric,
  type GroupDefinition,
  type Row,
  type TaskDefinition,
} from '../definition.js';
import { wholeText } from '../filters.js';
import { textOf, textsOf } from '../rows.js';

/** How RULER is asked. */
export interface RulerOptions {
  form: RulerForm;
  /** Tokens of prompt and answer, each a figure of its own. */
  lengths: readonly number[];
  /** Texts of each length. */
  samples: number;
}

export const defaultRuler: RulerOptions = { form: 'nvidia-2024-10', lengths: [4096], samples: 500 };

/** The harness's names of those that it calls otherwise. */
const names: Readonly<Record<string, string>> = {
  vt: 'ruler_vt',
  cwe: 'ruler_cwe',
  fwe: 'ruler_fwe',
  qa_1: 'ruler_qa_squad',
  qa_2: 'ruler_qa_hotpot',
};

export function rulerSuite(options: RulerOptions): TaskDefinition[] {
  // Read and cut once for all tasks.
  const known = new Map<string, RulerMaterials>();
  const materials = (directory: string) => {
    const found = known.get(directory) ?? materialsIn(directory, options.form);
    known.set(directory, found);
    return found;
  };
  return rulerTasks.map((task) => defined(task, options, materials));
}

export function rulerGroup({ lengths }: RulerOptions): GroupDefinition {
  return {
    name: 'ruler',
    version: 1,
    members: rulerTasks.map(({ name }) => names[name] ?? name),
    aggregate: lengths.map((length) => ({ metric: `${length}`, filters: ['none'], weightBySize: false })),
  };
}

function defined(
  task: RulerTask,
  options: RulerOptions,
  materialsOf: (directory: string) => RulerMaterials,
): TaskDefinition {
  const isHarness = options.form === 'harness';
  // The harness's port gives a share to answers that are several spellings of one.
  const any = task.anyOutput && !isHarness;
  return defineTask({
    kind: 'generate_until',
    name: names[task.name] ?? task.name,
    version: 1,
    dataset: { path: `RULER, ${options.form}` },
    split: 'test',
    columns: ['prompt', 'outputs', 'max_length'],
    write: async ({ directory, count, encodesBos }) => {
      const rows: Row[] = [];
      const materials = materialsOf(directory);
      // The harness counts a beginning token that its tokenizer adds.
      const counted = async (text: string) => (await count(text)) + (isHarness && encodesBos ? 1 : 0);
      const [seed, numpySeed] = isHarness ? [0, 1234] : [SHUFFLE_SEED, SHUFFLE_SEED];
      let random = new PythonRandom(seed);
      let numpy = new NumpyRandom(numpySeed);
      for (const maxLength of options.lengths) {
        if (!isHarness) [random, numpy] = [new PythonRandom(seed), new NumpyRandom(numpySeed)];
        const { form, samples } = options;
        const made = await task.write({ form, random, numpy, materials, count: counted, maxLength, samples });
        rows.push(...made.map((one, index) => ({ index, ...one, max_length: maxLength })));
      }
      return rows;
    },
    text: (row) => textOf(row, 'prompt'),
    target: (row) => textsOf(row, 'outputs')[0]!,
    settings: { until: [], do_sample: false, temperature: 0, max_gen_toks: task.answerTokens },
    filters: [wholeText],
    metrics: options.lengths.map((length) => found(length, any)),
  });
}

/** The share of outputs that an answer holds, or whether it holds any; −1 for texts of another length. */
function found(length: number, any: boolean): GenerationMetric {
  return {
    name: `${length}`,
    higherIsBetter: true,
    leftOut: -1,
    score: (text, row) => {
      if (row.max_length !== length) return -1;
      const share = shareFound(text, textsOf(row, 'outputs'));
      return any ? Math.ceil(share) : share;
    },
  };
}

/** The share of texts that occur in an answer, in whatever case. */
export function shareFound(answer: string, outputs: readonly string[]): number {
  // Control characters count for line feeds.
  const printed = strip(
    Array.from(strip(answer), (character) => (character < ' ' ? '\n' : character)).join(''),
  ).toLowerCase();
  return outputs.filter((output) => printed.includes(output.toLowerCase())).length / outputs.length;
}
