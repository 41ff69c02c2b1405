/** sb-eval compare: samples of two evaluations, task by task. */
import { alignColumns, shown } from '@stickbreaking/base';
import { checkOutput, jsonOption, printJson, runCommand, withHeading } from '@stickbreaking/base/node';
import { type ReportBlock, writeReport } from './report/report.js';
import { type Comparison, compareSamples } from './results/compare.js';
import { type SamplesPair, samplesPairs } from './results/samples_pairs.js';

interface Compared extends SamplesPair {
  found: Comparison;
}

export function compareMain(argv: string[]): Promise<number> {
  return runCommand<{ first: string; second: string; json: boolean; report: string | undefined }>(
    argv,
    (parser) =>
      parser
        .scriptName('sb-eval')
        .command(
          'compare <first> <second>',
          'Compares samples of two evaluations, ours or the harness’s: two files, or two folders and all tasks in both.',
          (command) =>
            command
              .positional('first', { type: 'string', describe: 'samples_<task>_<time>.jsonl, or a folder of them' })
              .positional('second', { type: 'string', describe: 'the same of another model, or of another program' }),
        )
        .option('report', { type: 'string', describe: 'write the comparison as an HTML file' })
        .options(jsonOption) as never,
    async ({ first, second, json, report }) => {
      if (report !== undefined) checkOutput(report);
      const pairs = samplesPairs(first, second);
      const compared = pairs.map((pair) => ({ ...pair, found: compareSamples(pair.first, pair.second) }));
      if (report !== undefined) {
        await writeReport(report, {
          title: 'Two evaluations compared',
          blocks: comparisonBlocks(first, second, compared),
        });
      }
      if (json) {
        const only = pairs.length === 1 && pairs[0]!.task === undefined ? compared[0]!.found : undefined;
        const all = compared.map(({ task, found }) => ({ task, ...found }));
        printJson(only ?? all);
      } else process.stdout.write(`${compared.map(comparisonText).join('\n')}`);
    },
  );
}

function comparisonText({ task, found }: Compared): string {
  const { common, onlyFirst, onlySecond, samePrompts, firstDifference, largestDifference, figures } = found;
  const lines = [
    `${common} samples in common, ${onlyFirst} only in the first and ${onlySecond} only in the second; ${samePrompts} ask the same.`,
  ];
  if (firstDifference) {
    const { document, byte, first, second } = firstDifference;
    lines.push(
      `The first difference is in document ${document} at byte ${byte}: '${shown(first)}' and '${shown(second)}'.`,
    );
  }
  if (largestDifference) {
    const { document, value } = largestDifference;
    lines.push(`Log-likelihoods are at most ${value.toPrecision(3)} apart (document ${document}).`);
  }
  const rows = figures.map(({ metric, filter, first, second, discordant, pValue }) => [
    metric,
    filter,
    first.toFixed(4),
    second.toFixed(4),
    discordant ? `${discordant[0]}` : '',
    discordant ? `${discordant[1]}` : '',
    pValue === undefined ? '' : pValue.toPrecision(2),
  ]);
  const header = ['metric', 'filter', 'first', 'second', 'only first right', 'only second right', 'p (McNemar)'];
  const heading = task === undefined ? '' : `${task}\n`;
  return `${heading}${lines.join('\n')}\n\n${withHeading(alignColumns([header, ...rows]))}\n`;
}

function comparisonBlocks(first: string, second: string, compared: readonly Compared[]): ReportBlock[] {
  const rows = compared.flatMap(({ task, found }) =>
    found.figures.map(({ metric, filter, first: a, second: b, discordant, pValue }) => [
      ...[task ?? '', filter === 'none' ? metric : `${metric}, ${filter}`, found.common, a.toFixed(4), b.toFixed(4)],
      ...[(b - a).toFixed(4), discordant?.[0] ?? '', discordant?.[1] ?? '', pValue?.toPrecision(2) ?? ''],
    ]),
  );
  const remarks = compared.flatMap(({ task, found }) => {
    const { samePrompts, common, firstDifference } = found;
    if (samePrompts === common) return [];
    const at = firstDifference ? `; the first difference is in document ${firstDifference.document}` : '';
    return [`${task ?? 'The samples'}: ${common - samePrompts} of ${common} prompts differ${at}.`];
  });
  return [
    {
      kind: 'facts',
      facts: [
        ['first', first],
        ['second', second],
      ],
    },
    {
      kind: 'text',
      text: 'Both were asked about the same documents, so the test is a paired one: of the documents that only one of the two gets right, how likely is so uneven a split if neither is better (McNemar’s exact test)?',
    },
    {
      kind: 'table',
      columns: [
        ...['task', 'figure', 'documents', 'first', 'second', 'difference'],
        ...['only first right', 'only second right', 'p'],
      ],
      rows,
    },
    ...remarks.map((text): ReportBlock => ({ kind: 'text', text })),
  ];
}
