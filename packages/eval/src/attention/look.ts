/** Where the heads of a checkpoint look on a text that somebody types, and how the model goes on: for pages, as plain JSON. */
import { UserError } from '@stickbreaking/base';
import { selectBackend } from '@stickbreaking/core';
import { type AttentionConfig, attentionKind } from '@stickbreaking/model';
import { type OpenedCheckpoint, openCheckpoint } from '../checkpoint.js';
import { runPrompts } from '../generation/run_prompts.js';
import { pictureStyle } from '../report/picture_style.js';
import { drawBlock } from '../report/report.js';
import { type AttentionMap, attentionMaps } from './maps.js';
import { attentionPicture, tokenLabels } from './picture.js';

/** One head on one text, on average over its tokens. */
export interface HeadReach {
  /** How many tokens back its weights lie, weighted by them; 0 is the token itself. */
  distance: number;
  /** What it gave to no token. */
  remainder: number;
}

/** What a checkpoint makes of a text. */
export interface AttentionLook {
  checkpoint: string;
  attention: AttentionConfig;
  /** Some of what its tokens give may go to no token. */
  leavesRemainder: boolean;
  /** As labels; the first stands for the token that a document begins with. */
  tokens: string[];
  /** The text has more tokens than are drawn. */
  cut: boolean;
  /** [layers][heads] */
  reach: HeadReach[][];
  layer: number;
  /** SVG of every head of the layer, in order; they need `style`. */
  pictures: string[];
  style: string;
  /** What the model adds, always taking the likeliest token. */
  continuation: string;
}

/** Options of `AttentionLooker.look`. */
export interface LookOptions {
  /** The layer that is drawn, from 0; default 0. */
  layer?: number;
  /** Tokens of the continuation; default 40. */
  newTokens?: number;
}

/** Pictures of more tokens cannot be read. */
const MOST_TOKENS = 64;

/** Keeps the checkpoint that was looked at last, and what it made of the last text. */
export class AttentionLooker {
  private opened: OpenedCheckpoint | undefined;
  private last: { text: string; newTokens: number; maps: AttentionMap[]; continuation: string } | undefined;

  private constructor(private readonly path: string) {}

  /**
   * Loads a checkpoint.
   *
   * @param path a checkpoint as `openCheckpoint` takes it
   * @param backend as `selectBackend` takes it; default: the processor's, also where there is a GPU, which may be training
   * @throws UserError where there is no such checkpoint or backend
   */
  static async open(path: string, backend?: string): Promise<AttentionLooker> {
    await (backend === undefined ? selectBackend('native').catch(() => selectBackend('cpu')) : selectBackend(backend));
    const looker = new AttentionLooker(path);
    looker.opened = await openCheckpoint(path);
    return looker;
  }

  /** @throws UserError where the text is empty, or the model has no such layer */
  async look(text: string, { layer = 0, newTokens = 40 }: LookOptions = {}): Promise<AttentionLook> {
    const opened = this.opened;
    if (!opened) throw new UserError(`${this.path} is closed.`);
    if (text === '') throw new UserError('There is no text to look at.');
    const { model, tokenizer, directory } = opened;
    const { attention, numLayers } = model.config;
    if (!(Number.isInteger(layer) && layer >= 0 && layer < numLayers))
      throw new UserError(`The model has no layer ${layer}: its ${numLayers} layers are 0 to ${numLayers - 1}.`);
    const all = [tokenizer.beginId, ...tokenizer.encode(text)];
    const ids = all.slice(0, MOST_TOKENS);
    if (this.last?.text !== text || this.last.newTokens !== newTokens) {
      const continuation = await continued(opened, text, newTokens);
      this.last = { text, newTokens, maps: attentionMaps(model, ids), continuation };
    }
    const { maps, continuation } = this.last;
    const tokens = ['begin', ...tokenLabels(ids.slice(1), (some) => tokenizer.decode(some))];
    const reach = Array.from({ length: numLayers }, (_, l) =>
      maps.filter((map) => map.layer === l).map((map) => reachOf(map, ids.length)),
    );
    const ofLayer = maps.filter((map) => map.layer === layer);
    const blocks = ofLayer.map((map) => attentionPicture(map, { labels: tokens, caption: `Head ${map.head}` }));
    const pictures = await Promise.all(blocks.map(async (block) => (await drawBlock(block))!));
    return {
      ...{ checkpoint: directory, attention, leavesRemainder: attentionKind(attention).leavesRemainder(attention) },
      ...{ tokens, cut: all.length > ids.length, reach, layer, pictures, style: pictureStyle, continuation },
    };
  }

  /** Gives back the model's memory; `look` then refuses. */
  dispose(): void {
    this.opened?.model.dispose();
    this.opened = undefined;
  }
}

function reachOf({ weights, remainder }: AttentionMap, length: number): HeadReach {
  let [given, distance] = [0, 0];
  for (let j = 0; j < length; j++) {
    for (let i = 0; i <= j; i++) {
      given += weights[j * length + i]!;
      distance += weights[j * length + i]! * (j - i);
    }
  }
  const left = remainder.reduce((sum, one) => sum + one, 0);
  return { distance: given > 0 ? distance / given : 0, remainder: left / length };
}

async function continued(opened: OpenedCheckpoint, text: string, maxNewTokens: number): Promise<string> {
  let continuation = '';
  const only = async function* () {
    yield { index: 0, prompt: text };
  };
  await runPrompts(opened, only(), {
    ...{ maxNewTokens, temperature: 0, stopTexts: [], echo: false, batchSize: 1 },
    signal: new AbortController().signal,
    onRecord: (record) => {
      continuation = record.text;
    },
  });
  return continuation;
}
