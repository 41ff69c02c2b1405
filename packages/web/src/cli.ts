/** sb-web: writes the page that runs a checkpoint in the browser. */
import { formatBytes } from '@stickbreaking/base';
import { checkOutput, replaceFile, runCommand } from '@stickbreaking/base/node';
import { readPage } from './page_file.js';

interface Arguments {
  output: string;
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
        .example('$0', 'writes model.html') as never,
    write,
  );
}

async function write({ output }: Arguments): Promise<void> {
  checkOutput(output);
  const page = readPage();
  replaceFile(output, page);
  process.stdout.write(`${output}: ${formatBytes(Buffer.byteLength(page))}; open it in a browser\n`);
}
