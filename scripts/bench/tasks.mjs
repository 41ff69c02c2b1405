// `npm run bench -- tasks --goldens DIR --checkpoint DIR`: tasks on the CPU. How long the texts of all 13 tasks of RULER take to
// write, and how long a small model takes to be scored on the multiple-choice tasks: 100 documents of each, and of MMLU two of
// each of its 57 subjects. The documents are those of golden files, repeated. Options: --texts n --length n --documents n
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { selectBackend } from '@stickbreaking/core';
import { Evaluator, openCheckpoint } from '@stickbreaking/eval';
import { machine, writeReport } from './measure.mjs';
import { writeGoldenData, writeRepeated, writeRulerMaterials } from './tasks/golden_data.mjs';

const { values: o } = parseArgs({
  options: {
    goldens: { type: 'string', default: process.env.STICKBREAKING_GOLDENS ?? 'goldens' },
    checkpoint: { type: 'string', default: 'quickstart/runs/stick-breaking' },
    texts: { type: 'string', default: '100' },
    length: { type: 'string', default: '4096' },
    documents: { type: 'string', default: '100' },
  },
});
const { description } = await selectBackend('native');
const { model, tokenizer } = await openCheckpoint(o.checkpoint);
const folder = mkdtempSync(join(tmpdir(), 'bench-tasks-'));
const seconds = (since) => (performance.now() - since) / 1000;
const report = { ...machine(description), rows: [] };
const done = (row) => {
  report.rows.push(row);
  console.log(JSON.stringify(row));
};
try {
  writeRulerMaterials(o.goldens, folder);
  const ruler = { form: 'nvidia-2024-10', lengths: [Number(o.length)], samples: Number(o.texts) };
  const since = performance.now();
  await Evaluator.open({ tokenizer, maxLength: Number(o.length), dataDir: folder, tasks: 'ruler', ruler });
  done({ what: `13 tasks of RULER, ${o.texts} texts each at ${o.length} tokens, written`, seconds: seconds(since) });

  writeGoldenData(o.goldens, folder);
  writeRepeated(o.goldens, folder, Number(o.documents));
  const choices = ['arc_easy', 'arc_challenge', 'hellaswag', 'openbookqa', 'piqa', 'race', 'sciq', 'winogrande'];
  for (const [tasks, limit] of [
    [choices, Number(o.documents)],
    ['mmlu', 2],
  ]) {
    const began = performance.now();
    const { contextLength: maxLength } = model.config;
    const evaluator = await Evaluator.open({ tokenizer, maxLength, dataDir: folder, tasks, limit });
    const { outcomes } = await evaluator.evaluate(model);
    const documents = outcomes.reduce((sum, { scores }) => sum + scores.length, 0);
    const requests = outcomes.reduce((sum, { answers }) => sum + answers.flat().length, 0);
    done({ what: `${[tasks].flat().join(', ')}`, documents, requests, seconds: seconds(began) });
  }
} finally {
  rmSync(folder, { recursive: true });
}
writeReport('tasks', report);
