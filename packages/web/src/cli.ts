/** sb-web: writes the page that runs a checkpoint in the browser. */
import { EXIT, formatBytes, UserError } from '@stickbreaking/base';
import { checkOutput, jsonOption, printJson, runCommand, writeOutput } from '@stickbreaking/base/node';
import { readPage } from './page_file.js';

interface Arguments {
  output: string;
  checkpoint: string | undefined;
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
        .option('checkpoint', { type: 'string', hidden: true }) // of the other commands
        .example('$0', 'writes model.html') as never,
    write,
  );
}

async function write({ output, json, checkpoint }: Arguments): Promise<void> {
  if (checkpoint !== undefined)
    throw new UserError(
      'sb-web takes no --checkpoint: open the page that it writes in a browser, and drop the checkpoint’s files on it.',
      { exitCode: EXIT.usage },
    );
  checkOutput(output);
  const page = readPage();
  writeOutput(output, page);
  const bytes = Buffer.byteLength(page);
  if (json) printJson({ output, bytes });
  else process.stdout.write(`${output}: ${formatBytes(bytes)}; open it in a browser\n`);
}
