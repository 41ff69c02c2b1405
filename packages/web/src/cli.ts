/** sb-web: writes the page that runs a checkpoint in the browser. */
import { formatBytes } from '@stickbreaking/base';
import { checkOutput, jsonOption, printJson, runCommand, writeOutput } from '@stickbreaking/base/node';
import { readPage } from './page_file.js';

interface Arguments {
  output: string;
  json: boolean;
}

export function main(argv: string[]): Promise<number> {
  return runCommand<Arguments>(
    argv,
    (parser) =>
      parser
        .scriptName('sb-web')
        .usage(
          '$0\n\nWrites a page as one HTML file. Opened in a browser, it runs the checkpoint whose files are dropped on it: what the model attends to, and what it goes on with.',
        )
        .option('output', { type: 'string', default: 'model.html', describe: 'the file' })
        .options(jsonOption)
        .example('$0', 'writes model.html') as never,
    write,
  );
}

async function write({ output, json }: Arguments): Promise<void> {
  checkOutput(output);
  const page = readPage();
  writeOutput(output, page);
  const bytes = Buffer.byteLength(page);
  if (json) printJson({ output, bytes });
  else process.stdout.write(`${output}: ${formatBytes(bytes)}; open it in a browser\n`);
}
