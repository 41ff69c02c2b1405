/** A checkpoint that runs in the browser: on WebGPU where there is one, on the processor otherwise. */
import '@tensorflow/tfjs-backend-webgpu';
import { selectBackend } from '@stickbreaking/core';
import { openTokenizerText, type TextTokenizer } from '@stickbreaking/data/browser';
import {
  type AttentionConfig,
  attentionKind,
  countParameters,
  type LlamaModel,
  type ObservedAttention,
  openCheckpoint,
} from '@stickbreaking/model/browser';
import { dispose, keep, memory, type Tensor, type Tensor3D } from '@tensorflow/tfjs-core';

/** Tokens that are looked at: weights of a text are as many as their square, for each head. */
export const MOST_TOKENS = 128;
/** Likeliest next tokens that are told. */
const NEXT = 10;

export type Backend = 'webgpu' | 'cpu';

/** What a checkpoint is. */
export interface Facts {
  backend: Backend;
  parameters: number;
  numLayers: number;
  numHeads: number;
  attention: string;
  leavesRemainder: boolean;
}

/** A text as the model reads it. */
export interface Reading {
  /** N of them; the first is where every text begins from. */
  tokens: { id: number; text: string }[];
  /** Tokens before these, which are left out. */
  cut: number;
  /** Of each layer [numHeads·N·N]: row the query, column the key. */
  weights: Float32Array[];
  /** Of each layer [numHeads·N]: what no key took. */
  remainders: Float32Array[];
  /** The likeliest tokens to follow. */
  next: { id: number; text: string; probability: number }[];
  /** [vocabSize] of the token that follows. */
  logits: Float32Array;
  milliseconds: number;
}

/** The fastest backend that works here, or the one asked for. */
async function chooseBackend(wanted?: Backend): Promise<Backend> {
  const adapter = wanted === 'cpu' ? null : await (navigator as { gpu?: GPU }).gpu?.requestAdapter();
  if (adapter) {
    try {
      await selectBackend('webgpu');
      return 'webgpu';
    } catch (error) {
      if (wanted) throw error;
    }
  }
  if (wanted === 'webgpu') throw new Error('there is no WebGPU here');
  await selectBackend('cpu');
  return 'cpu';
}

interface GPU {
  requestAdapter(): Promise<object | null>;
}

export class Engine {
  private constructor(
    private readonly model: LlamaModel,
    private readonly tokenizer: TextTokenizer,
    private readonly backend: Backend,
  ) {}

  /** @throws Error that says which file is missing or wrong */
  static async open(files: readonly File[], wanted?: Backend): Promise<Engine> {
    const tokenizerFile = files.find(({ name }) => name === 'tokenizer.json');
    if (!tokenizerFile) throw new Error('tokenizer.json is missing among the files.');
    const json = files.filter(({ name, size }) => name.endsWith('.json') && size < 2 ** 20);
    const beside = new Map(await Promise.all(json.map(async (file) => [file.name, await file.text()] as const)));
    const tokenizer = openTokenizerText(await tokenizerFile.text(), beside);
    const backend = await chooseBackend(wanted);
    const model = await openCheckpoint(files);
    if (tokenizer.vocabSize > model.config.vocabSize) {
      model.dispose();
      throw new Error(
        `tokenizer.json has ${tokenizer.vocabSize} tokens, the model ${model.config.vocabSize}: they do not belong together.`,
      );
    }
    return new Engine(model, tokenizer, backend);
  }

  get facts(): Facts {
    const { config } = this.model;
    const { numLayers, numHeads, attention } = config;
    return {
      ...{ backend: this.backend, parameters: countParameters(config), numLayers, numHeads },
      ...{ attention: nameOf(attention), leavesRemainder: attentionKind(attention).leavesRemainder(attention) },
    };
  }

  async read(text: string): Promise<Reading> {
    const begun = performance.now();
    const all = this.idsOf(text);
    const ids = all.slice(-MOST_TOKENS);
    const kept: Tensor3D[] = [];
    const observe = ({ weights }: ObservedAttention) => void kept.push(keep(weights()));
    const last = this.model.lastLogits(ids, { observe });
    const [logits, ...weights] = (await Promise.all(
      [last, ...kept].map((one: Tensor) => one.data()),
    )) as Float32Array[];
    dispose([last, ...kept]);
    return {
      tokens: ids.map((id) => ({ id, text: this.textOf(id) })),
      cut: all.length - ids.length,
      weights,
      remainders: weights.map((one) => remaindersOf(one, ids.length)),
      next: this.likeliest(logits!),
      logits: logits!,
      milliseconds: performance.now() - begun,
    };
  }

  /** The text that follows, piece by piece. */
  async *write(text: string, options: { maxNewTokens: number; temperature: number; seed: number }) {
    const ids = this.idsOf(text);
    const decoder = this.tokenizer.streamDecoder(ids);
    for await (const id of this.model.generate(ids, { ...options, stop: [...this.tokenizer.stopIds] })) {
      if (this.tokenizer.stopIds.includes(id)) break;
      const piece = decoder.push(id);
      if (piece) yield piece;
    }
    const rest = decoder.end();
    if (rest) yield rest;
  }

  /** Tensors that are held, for tests: as many after a reading as before. */
  get heldTensors(): number {
    return memory().numTensors;
  }

  dispose(): void {
    this.model.dispose();
  }

  private idsOf(text: string): number[] {
    return [this.tokenizer.beginId, ...this.tokenizer.encode(text)];
  }

  private textOf(id: number): string {
    return this.tokenizer.decode([id], { skipSpecialTokens: false });
  }

  private likeliest(logits: Float32Array): Reading['next'] {
    const largest = logits.reduce((most, one) => Math.max(most, one), Number.NEGATIVE_INFINITY);
    const powers = logits.map((one) => Math.exp(one - largest));
    const sum = powers.reduce((total, one) => total + one, 0);
    const ids = Array.from(powers.keys()).sort((a, b) => powers[b]! - powers[a]!);
    return ids.slice(0, NEXT).map((id) => ({ id, text: this.textOf(id), probability: powers[id]! / sum }));
  }
}

function remaindersOf(weights: Float32Array, length: number): Float32Array {
  return Float32Array.from({ length: weights.length / length }, (_, row) => {
    let rest = 1;
    for (let i = row * length; i < (row + 1) * length; i++) rest -= weights[i]!;
    return Math.max(0, rest);
  });
}

function nameOf(attention: AttentionConfig): string {
  if (attention.kind === 'stick-breaking') return 'stick-breaking attention';
  const { position, window } = attention;
  const positions = { rope: 'RoPE', alibi: 'ALiBi', fire: 'FIRE', none: 'no positions', forget: 'forget gates' };
  return `softmax attention, ${positions[position.kind]}${window ? `, a window of ${window}` : ''}`;
}
