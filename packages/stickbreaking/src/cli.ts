/** stickbreaking: the quickstart. The other commands of this package are those of the packages that it brings. */
import { jsonOption, printJson, runCommand } from '@stickbreaking/base/node';
import { quickstart } from './quickstart/quickstart.js';

interface Arguments {
  backend: string | undefined;
  overrides: string[];
  json: boolean;
}

export function main(argv: string[]): Promise<number> {
  return runCommand<Arguments>(
    argv,
    (parser) =>
      parser
        .scriptName('stickbreaking')
        .command(
          'quickstart [backend] [overrides..]',
          'Trains two small models on real text, stick-breaking and softmax+RoPE, evaluates both, writes quickstart/report.html',
          (command) =>
            command
              .positional('backend', { type: 'string', describe: 'auto, native, cuda or cpu; default: auto' })
              .positional('overrides', {
                type: 'string',
                array: true,
                default: [],
                describe: 'key.path=value, for both of its run files',
              })
              .options(jsonOption),
        )
        .epilogue(
          'More commands, each with --help: sb-tokenizer, sb-train, sb-board, sb-report, sb-web, sb-eval, sb-generate, sb-chat, sb-serve, sb-study.',
        ) as never,
    async ({ backend = 'auto', overrides, json }) => {
      const given = backend.includes('=') ? { overrides: [backend, ...overrides] } : { backend, overrides };
      const result = await quickstart({ ...given, quiet: json });
      if (json) printJson(result);
    },
  );
}
