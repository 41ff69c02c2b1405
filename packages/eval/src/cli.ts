/** sb-eval: perplexity by context length of a checkpoint on a text. */
import { EXIT, OptionError, UserError } from '@stickbreaking/base';
import {
  checkDirectory,
  checkOutput,
  jsonOption,
  progressLine,
  runCommand,
  withHeading,
  writeOutput,
} from '@stickbreaking/base/node';
import { selectBackend } from '@stickbreaking/core';
import {
  dataDescription,
  findFiles,
  readPieces,
  type SourceArguments,
  type SpecialTokenArguments,
  sourceOptions,
  sourcesFrom,
  specialTokenOptions,
  specialTokensFrom,
} from '@stickbreaking/data';
import { drawAttention } from './attention/command.js';
import { openCheckpoint, verifyOption } from './checkpoint.js';
import { DocumentTokens } from './document_tokens.js';
import { scoreDocuments } from './documents.js';
import { parseLengths } from './lengths.js';
import { checkMemory } from './memory.js';
import { writeReport } from './report/report.js';
import { lengthsBlocks } from './results/lengths_blocks.js';
import { BATCH_TOKENS, type DocumentsResult, type LengthResult, scorerOf } from './scoring.js';
import { evaluateStream } from './stream.js';
import { suiteCommands } from './suite_cli.js';
import { formatTable } from './table.js';
import { asksForTasks, main as tasksMain } from './tasks_cli.js';

const protocols = {
  stream: 'stream: one stream cut into windows of the length (the figures of the stick-breaking paper)',
  documents: 'documents: document by document in rolling windows (lm-evaluation-harness)',
} as const;

interface Arguments extends SourceArguments, SpecialTokenArguments {
  checkpoint: string;
  lengths: string | undefined;
  data: string | undefined;
  protocol: 'stream' | 'documents' | 'both' | undefined;
  tokenizer: string | undefined;
  verify: boolean;
  maxTokens: number | undefined;
  backend: string;
  json: boolean;
  output: string | undefined;
  report: string | undefined;
  attention: boolean;
  text: string | undefined;
  layers: string | undefined;
  heads: string | undefined;
  tokens: number | undefined;
  pictures: string | undefined;
}

export function main(argv: string[]): Promise<number> {
  if (asksForTasks(argv)) return tasksMain(argv);
  return runCommand<Arguments>(
    argv,
    (parser) =>
      parser
        .scriptName('sb-eval')
        .usage(
          [
            '$0 --checkpoint DIR --lengths 2048..65536 --data FILE',
            '  perplexity of a checkpoint by context length',
            '$0 --checkpoint DIR --attention --text "…" [--layers 0,1] [--heads 0..3]',
            '  its attention on a short text, drawn',
            '$0 --checkpoint DIR --tasks arc_easy,mmlu --data-dir DIR (--tasks --help lists its options)',
            '  its scores on tasks; `$0 tasks` lists them, `$0 score` scores saved answers again',
          ].join('\n'),
        )
        .option('checkpoint', {
          type: 'string',
          demandOption: true,
          describe: 'checkpoint, run directory (its latest), RUN/best or hf://org/name[@revision]',
        })
        .option('lengths', {
          type: 'string',
          describe: 'a range, which doubles (2048..65536), or a list (1000,3000)',
        })
        .option('data', { type: 'string', describe: dataDescription })
        .options(sourceOptions)
        .option('protocol', {
          choices: ['stream', 'documents', 'both'] as const,
          describe: 'how the text is divided by length; default: stream',
        })
        .option('tokenizer', { type: 'string', describe: 'tokenizer.json; default: the checkpoint’s own' })
        .options(specialTokenOptions)
        .options(verifyOption)
        .option('max-tokens', {
          type: 'number',
          describe: 'score no more tokens than this; documents: the first that fit, whole',
        })
        .option('backend', { type: 'string', default: 'auto', describe: 'auto, native, cpu, …' })
        .options(jsonOption)
        .option('output', {
          type: 'string',
          describe: 'write the JSON to this file too; with --attention: the HTML file',
        })
        .option('report', {
          type: 'string',
          describe: 'write perplexity by length and loss by position as an HTML file',
        })
        .option('attention', { type: 'boolean', default: false, describe: 'draw attention weights instead' })
        .option('text', { type: 'string', describe: 'attention: the text itself, instead of --data' })
        .option('layers', { type: 'string', describe: 'attention: layers from 0, such as 0,2..3; default all' })
        .option('heads', { type: 'string', describe: 'attention: heads from 0; default all' })
        .option('tokens', { type: 'number', describe: 'attention: draw this many tokens at most; default: 48' })
        .option('pictures', { type: 'string', describe: 'attention: write each picture as SVG here too' }) as never,
    (args) => (args.attention ? attention(args) : evaluate(args)),
    suiteCommands,
  );
}

async function attention(args: Arguments): Promise<void> {
  refuseOthers(args, LENGTHS_OPTIONS, 'is for scoring; --attention draws a text of as many --tokens as are asked for');
  const { output = 'attention.html', pictures, tokens = 48 } = args;
  if (!(Number.isInteger(tokens) && tokens > 0)) throw new OptionError('--tokens', tokens, 'a whole number above 0');
  checkOutput(output);
  if (pictures !== undefined) checkDirectory(pictures);
  await selectBackend(args.backend);
  const opened = await openCheckpoint(args.checkpoint, { ...args, specialTokens: specialTokensFrom(args) });
  await drawAttention(opened, { ...args, output, tokens });
}

const ATTENTION_OPTIONS = ['text', 'layers', 'heads', 'tokens', 'pictures'] as const;
const LENGTHS_OPTIONS = ['lengths', 'protocol', 'maxTokens', 'report'] as const;

/** @throws UserError where one of these options is given, which would do nothing */
function refuseOthers(args: Arguments, options: readonly (keyof Arguments)[], why: string): void {
  const given = options.find((option) => args[option] !== undefined);
  if (given === undefined) return;
  const typed = `--${given.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  throw new UserError(`${typed} ${why}.`, { exitCode: EXIT.usage });
}

async function evaluate(args: Arguments): Promise<void> {
  const { data } = args;
  if (args.lengths === undefined || data === undefined) {
    const missing = args.lengths === undefined ? '--lengths, such as 2048..65536' : '--data, the text to evaluate on';
    throw new UserError(`Missing ${missing} (see --help).`, { exitCode: EXIT.usage });
  }
  refuseOthers(args, ATTENTION_OPTIONS, 'is for --attention, which is not given');
  const { protocol = 'stream', maxTokens: most } = args;
  const lengths = parseLengths(args.lengths);
  const longest = Math.max(...lengths);
  if (most !== undefined && !(Number.isSafeInteger(most) && most > 0))
    throw new OptionError('--max-tokens', most, 'a whole number above 0');
  if (most !== undefined && most < longest && protocol !== 'documents')
    throw new OptionError('--max-tokens', most, `${longest} or more, as a window of the longest of --lengths has`);
  if (args.output !== undefined) checkOutput(args.output);
  if (args.report !== undefined) checkOutput(args.report);
  const sources = await sourcesFrom(data, args);
  const backend = await selectBackend(args.backend);
  const opened = await openCheckpoint(args.checkpoint, { ...args, specialTokens: specialTokensFrom(args) });
  const { directory, tokenizer, model } = opened;
  const tokens = Math.max(longest, BATCH_TOKENS);
  const asked = { what: `A context of ${longest} tokens`, advice: 'take shorter --lengths' };
  checkMemory(model.config, backend.name, tokens, asked);
  for (const source of sources) await findFiles(source);
  const reading = { endTexts: tokenizer.endTexts, limit: args.limit };
  const progress = progressLine();
  const onProgress = ({ length, done, total }: { length: number; done: number; total: number }) =>
    progress.show(`length ${length}: ${((100 * done) / total).toFixed(0)} % of ${total} tokens`);
  const score = scorerOf(model);
  const maxTokens = args.maxTokens === undefined ? {} : { maxTokens: args.maxTokens };
  // First, for it may refuse the text.
  const documents =
    protocol === 'stream'
      ? undefined
      : await DocumentTokens.read(readPieces(sources, reading), tokenizer, args.maxTokens);
  const results: (LengthResult | DocumentsResult)[] = [];
  if (protocol !== 'documents') {
    results.push(
      ...(await evaluateStream(score, readPieces(sources, reading), { lengths, tokenizer, onProgress, ...maxTokens })),
    );
  }
  if (documents) results.push(...(await scoreDocuments(score, documents, { lengths, tokenizer, onProgress })));
  progress.clear();
  checkLosses(results, directory);
  const record = {
    checkpoint: directory,
    data,
    attention: model.config.attention,
    backend: backend.description,
    ...maxTokens,
    results,
  };
  const json = `${JSON.stringify(record, null, 2)}\n`;
  if (args.output) writeOutput(args.output, json);
  if (args.report !== undefined) {
    const part = documents?.isPart ? { documents: partOf(documents.texts.length, args.maxTokens!) } : {};
    const facts = Object.entries({ checkpoint: directory, data, backend: backend.description, ...part });
    await writeReport(args.report, {
      title: `${args.checkpoint} by context length`,
      blocks: lengthsBlocks(results, facts),
    });
  }
  process.stdout.write(args.json ? json : report(record));
}

/** No text has such a loss under weights that were trained, and JSON has no number for its perplexity. */
function checkLosses(results: readonly LengthResult[], directory: string): void {
  const odd = results.find(({ perplexity }) => !Number.isFinite(perplexity));
  if (!odd) return;
  throw new UserError(
    `${directory}: at length ${odd.length} the loss is ${odd.nll} nats a token, which is beyond any perplexity; its weights are damaged, or its training diverged.`,
    { exitCode: EXIT.refused },
  );
}

const partOf = (count: number, maxTokens: number) =>
  `the first ${count === 1 ? 'document' : `${count} documents`}; with the next they would have more than ${maxTokens} tokens`;

interface Evaluation {
  checkpoint: string;
  data: string;
  backend: string;
  maxTokens?: number;
  results: readonly (LengthResult | DocumentsResult)[];
}

function report({ checkpoint, data, backend, maxTokens, results }: Evaluation): string {
  const lines = [`${checkpoint} on ${data} (${backend})`];
  for (const protocol of ['stream', 'documents'] as const) {
    const own = results.filter((result) => result.protocol === protocol);
    if (own.length === 0) continue;
    lines.push('', `Protocol ${protocols[protocol]}`);
    if ('isPart' in own[0]! && own[0].isPart) lines.push(`Scored: ${partOf(own[0].documents, maxTokens!)}`);
    lines.push(withHeading(formatTable(own)));
  }
  return `${lines.join('\n')}\n`;
}
