/** sb-report: the comparison of runs as one HTML file. */
import { EXIT, formatBytes, UserError } from '@stickbreaking/base';
import { checkOutput, jsonOption, printJson, runCommand, writeOutput } from '@stickbreaking/base/node';
import { findRuns } from './find_runs.js';
import { renderReport } from './report.js';
import { RunReader } from './run_reader.js';

interface Arguments {
  _: (string | number)[];
  output: string;
  title: string | undefined;
  json: boolean;
}

export function main(argv: string[]): Promise<number> {
  return runCommand<Arguments>(
    argv,
    (parser) =>
      parser
        .scriptName('sb-report')
        .strict(false)
        .strictOptions() // what is no option is a run
        .usage('$0 runs …\n\nWrites the comparison of runs, as sb-board shows it, into one HTML file.')
        .option('output', { type: 'string', default: 'report.html', describe: 'the file' })
        .option('title', { type: 'string', describe: 'its title; default: the names of the runs' })
        .options(jsonOption)
        .example('$0 runs/a runs/b', 'these two, into report.html') as never,
    report,
  );
}

async function report({ _: named, output, title, json }: Arguments): Promise<void> {
  if (named.length === 0) throw new UserError('Name the runs to compare (see --help).', { exitCode: EXIT.usage });
  checkOutput(output);
  const paths = named.map(String);
  const names = findRuns(paths);
  if (names.length === 0) throw new UserError(`There is no run in ${paths.join(', ')}.`);
  const readers = names.map((name) => new RunReader(name));
  for (const reader of readers) reader.refresh();
  const several = names.length > 3 ? `${names.length} runs` : names.join(', ');
  const html = renderReport(
    readers.map((reader) => reader.whole()),
    title ?? several,
  );
  writeOutput(output, html);
  const bytes = Buffer.byteLength(html);
  if (json) {
    printJson({ output, runs: names, bytes });
    return;
  }
  process.stdout.write(`${output}: ${names.length} ${names.length === 1 ? 'run' : 'runs'}, ${formatBytes(bytes)}\n`);
}
