/** `sb-eval --attention`: the attention weights of chosen layers and heads on a short text, drawn into one HTML file. */
import { basename, resolve } from 'node:path';
import { EXIT, shown, UserError } from '@stickbreaking/base';
import { type SourceArguments, sourcesFrom, type Tokenizer } from '@stickbreaking/data';
import { type AttentionConfig, attentionKind } from '@stickbreaking/model';
import type { OpenedCheckpoint } from '../checkpoint.js';
import { type Report, writePictures, writeReport } from '../report/report.js';
import { readText } from '../text.js';
import { type AttentionMap, attentionMaps } from './maps.js';
import { attentionPicture, tokenLabels } from './picture.js';

export interface AttentionArguments extends SourceArguments {
  text: string | undefined;
  data: string | undefined;
  layers: string | undefined;
  heads: string | undefined;
  /** Tokens drawn at most. */
  tokens: number;
  output: string;
  /** A folder for each picture as SVG. */
  pictures: string | undefined;
  json: boolean;
}

export async function drawAttention(checkpoint: OpenedCheckpoint, args: AttentionArguments): Promise<void> {
  const { model, tokenizer, directory } = checkpoint;
  const text = args.text ?? (args.data && (await firstText(args.data, args, tokenizer)));
  if (!text) throw new UserError('--attention needs a text: give --text "…" or --data FILE.', { exitCode: EXIT.usage });
  const tokens = Array.from(tokenizer.encode(text)).slice(0, args.tokens);
  if (tokens.length === 0) throw new UserError('The text has no tokens.');
  const layers = args.layers === undefined ? undefined : parseIndices('--layers', args.layers);
  const heads = args.heads === undefined ? undefined : parseIndices('--heads', args.heads);
  const maps = attentionMaps(model, tokens, { ...(layers ? { layers } : {}), ...(heads ? { heads } : {}) });
  const labels = tokenLabels(tokens, (ids) => tokenizer.decode(ids));
  const { attention } = model.config;
  const report = attentionReport({ directory, attention, text }, labels, maps);
  await writeReport(args.output, report);
  const names = args.pictures === undefined ? [] : await writePictures(args.pictures, report);
  const said = names.length > 0 ? ` and ${names.length} SVG files in ${args.pictures}` : '';
  if (args.json) {
    const heads = maps.map(({ layer, head, weights, remainder }) => ({
      layer,
      head,
      weights: Array.from(labels, (_, j) => Array.from(weights.subarray(j * labels.length, (j + 1) * labels.length))),
      remainder: Array.from(remainder),
    }));
    process.stdout.write(
      `${JSON.stringify({ checkpoint: directory, attention: attention.kind, tokens, labels, heads })}\n`,
    );
  } else {
    process.stdout.write(
      `Attention of ${maps.length} heads over ${tokens.length} tokens: ${resolve(args.output)}${said}\n`,
    );
  }
}

async function firstText(data: string, args: SourceArguments, { endTexts }: Tokenizer): Promise<string> {
  const [first] = await readText(await sourcesFrom(data, args), { endTexts, limit: 1 });
  return first!.text;
}

function attentionReport(
  { directory, attention, text }: { directory: string; attention: AttentionConfig; text: string },
  labels: readonly string[],
  maps: readonly AttentionMap[],
): Report {
  const layers = [...new Set(maps.map(({ layer }) => layer))];
  const rest = attentionKind(attention).leavesRemainder(attention)
    ? ' The column ∅ is the remainder: what a token gave to no key.'
    : '';
  return {
    title: `Attention of ${basename(directory)}`,
    blocks: [
      {
        kind: 'text',
        text: `How much of its attention each token (downwards) gives to the tokens before it (to the right): the fuller its colour, the more. Point at a cell, or tap it, and its weight stands below the picture.${rest}`,
      },
      {
        kind: 'facts',
        facts: [
          ['checkpoint', directory],
          ['attention', attention.kind + currentOf(attention)],
          ['text', text.length > 400 ? `${text.slice(0, 400)}…` : text],
        ],
      },
      { kind: 'scale', label: 'weight', largest: 1 },
      ...layers.flatMap((layer) => [
        { kind: 'heading' as const, text: `Layer ${layer}` },
        {
          kind: 'row' as const,
          blocks: maps
            .filter((map) => map.layer === layer)
            .map((map) =>
              attentionPicture(map, {
                labels,
                caption: `Layer ${layer}, head ${map.head}`,
                name: `layer-${layer}-head-${map.head}`,
              }),
            ),
        },
      ]),
    ],
  };
}

/** Whether a token sees itself, where that is a choice. */
function currentOf(attention: AttentionConfig): string {
  if (!('attendCurrent' in attention)) return '';
  return attention.attendCurrent ? ', with the current token' : ', without the current token';
}

/** No model has more layers or heads. */
const MOST_INDEX = 2 ** 16;
const MOST_PARTS = 100;

/** `0,2..4` as [0, 2, 3, 4]. */
export function parseIndices(option: string, text: string): number[] {
  const parts = text.split(',');
  const indices = parts.flatMap((part) => {
    const match = /^\s*(\d+)(?:\.\.(\d+))?\s*$/.exec(part);
    const [first, last] = match ? [Number(match[1]), Number(match[2] ?? match[1])] : [0, -1];
    if (last > MOST_INDEX)
      throw new UserError(`${option} ${shown(text)}: numbers go up to ${MOST_INDEX}.`, { exitCode: EXIT.usage });
    if (parts.length > MOST_PARTS)
      throw new UserError(`${option}: ${parts.length} parts are more than anybody needs.`, { exitCode: EXIT.usage });
    if (last < first)
      throw new UserError(`${option} ${shown(text)} cannot be read; expected numbers from 0 such as 0,2..3.`, {
        exitCode: EXIT.usage,
      });
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
  return [...new Set(indices)];
}
