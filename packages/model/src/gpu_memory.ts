/**
 * How much GPU memory a training step needs: a list of what the cuda backend allocates. A test holds it to the backend
 * itself on a device that only counts.
 */
import type { MatmulPrecision, MomentType, ResidualType } from '@stickbreaking/core';
import type { SharedBy } from './attention/shared_sequence.js';
import type { LlamaConfig } from './config.js';
import { feedForwardOf } from './feed_forward/index.js';
import type { Recompute } from './layer.js';
import { parameterShapes } from './parameters.js';

/** What the memory of a training step depends on, beside the model. */
export interface TrainingMemoryOptions {
  /** Tokens of a micro-batch. */
  tokens: number;
  /** Tokens of its longest document; default: the model's context length. */
  contextLength?: number;
  recompute?: Recompute;
  /** Of the layers' matmuls. */
  precision?: MatmulPrecision | undefined;
  /** Of the residual stream. */
  residualType?: ResidualType | undefined;
  /** The form in which AdamW keeps its moments. */
  momentType?: MomentType | undefined;
  /** Whether a step sums the gradients of several micro-batches: then they are there all the time. */
  accumulates?: boolean;
  /** GPUs that share the optimizer's state; default 1. */
  gpus?: number;
  /** GPUs that share the sequences of a micro-batch, and how; default 1, by heads. */
  context?: number;
  contextBy?: SharedBy;
  /** What else they share; default: the optimizer's state alone. */
  shard?: 'optimizer' | 'gradients' | 'weights';
  /** Whether gradients are added in the order of the micro-batches; default: no. */
  orderedSums?: boolean;
  /** In what form gradients of matrices travel between them; default float32. */
  reduceType?: 'float32' | 'bfloat16';
}

/** Bytes of GPU memory at a training step's peak. */
export interface TrainingMemory {
  /** Weights in float32 with their copies in fewer bits, and AdamW's two moments: of several GPUs, each has a part. */
  state: number;
  /** Gradients that are there at the peak. */
  gradients: number;
  /** What the forward saves for the backward and what the backward works with, at the peak. */
  activations: number;
  total: number;
}

const BFLOAT16 = 2;
const FLOAT32 = 4;
/** A layer's weight in eight bits, by its rows and by its columns. */
const BOTH_SIDES = 2;
/** Of cuBLASLt, taken once. */
const WORKSPACE = 64 * 2 ** 20;
/** Logits that exist at a time, in float32. */
const LOGITS_CHUNK = 256 * 2 ** 20;
/** The gradient of all logits is kept from the forward up to here. */
const KEPT_LOGITS = 2 ** 31;
/** The most that an attention's backward keeps between its blocks or kernels. */
const ATTENTION_SCRATCH = 2 ** 30;
const TILE = 64;
/**
 * Stick-breaking in documents of more tokens, with heads up to 64, gathers rows that look far in memory that stays (on Hopper): room for
 * parts of rows on a GPU of 132 multiprocessors, and two numbers a row for a share of all tiles.
 */
const GATHERED_BEYOND = 4096;
const GATHERED_PARTS = 2 * 132 * 2 * 2 * TILE;
const GATHERED_TILES = 3 / 8;
const MOST_GATHERED_TILES = 2 ** 20;
/** Elements up to which several GPUs put layers together. */
const LEAST_BUCKET = 6 * 2 ** 20;
/** Layers' weights that are there where each GPU keeps its part: the one at work, the one before, the one that comes. */
const WEIGHTS_AHEAD = 3;
/** The same of gradients: the one at work, and the one that is being summed. */
const GRADIENTS_BEHIND = 2;

/** Bytes of GPU memory that a training step needs at its peak. The driver's own context, about half a GiB, comes on top. */
export function estimateTrainingMemory(
  config: LlamaConfig,
  { context = 1, ...given }: TrainingMemoryOptions,
): TrainingMemory {
  const options = { ...given, tokens: given.tokens / context, context };
  const { tokens, recompute = 'none', gpus = 1, accumulates = false } = options;
  const shard = gpus > 1 ? (options.shard ?? 'optimizer') : 'optimizer';
  const { hiddenSize, numLayers, vocabSize } = config;
  const { parameters, copied, inLayers, inEightBits } = countWeights(config);
  const moments = 2 * (options.momentType === 'bfloat16' ? BFLOAT16 : FLOAT32);
  const eight = options.precision === 'fp8' ? BOTH_SIDES * inEightBits : 0;
  const layerOf = inLayers / numLayers;
  const bucket = layerOf * Math.min(numLayers, Math.ceil(LEAST_BUCKET / layerOf));
  const outside = copied - inLayers;
  // Where each GPU keeps its part of the weights, so many buckets of the layers' are there besides.
  const whole = (buckets: number) =>
    shard === 'weights' ? parameters / gpus + Math.min(inLayers, buckets * bucket) + outside : parameters;
  const copies = (buckets: number) => BFLOAT16 * (gpus > 1 ? whole(buckets) : copied) + eight;
  const shared = WORKSPACE + gatheredRows(config, options);
  const state = (buckets: number) => ((FLOAT32 + moments) * parameters) / gpus + copies(buckets) + shared;
  const allGradients = FLOAT32 * parameters;

  const hidden = BFLOAT16 * hiddenSize * tokens;
  const { attention, feedForward, inAttention, inFeedForward } = layerBytes(config, options);
  const layer = attention + feedForward;
  // The stream's further bits stay where a part that runs again begins, and are there once or twice besides.
  const rest = options.residualType === 'fp24' ? hiddenSize * tokens : 0;
  const again = recompute === 'none' ? 0 : rest;
  const kept = { none: layer, attention: hidden + feedForward, block: hidden }[recompute] + again;
  // The last norm reads and writes the hidden states; where layers keep only their input, the end of the last is there too.
  const ends = 2 * hidden + rest;

  const logits = Math.min(LOGITS_CHUNK, FLOAT32 * vocabSize * tokens);
  const keptLogits = BFLOAT16 * vocabSize * tokens <= KEPT_LOGITS ? BFLOAT16 * vocabSize * tokens : 0;
  const headGradient =
    accumulates && shard === 'optimizer' && !options.orderedSums ? 0 : FLOAT32 * vocabSize * hiddenSize;
  // Where the embedding is not the head too, its gradient is the last.
  const embeddingGradient = config.tieEmbeddings ? 0 : FLOAT32 * vocabSize * hiddenSize;
  const lossForward = keptLogits + logits;
  const lossBackward = keptLogits + 2 * hidden + (keptLogits > 0 ? 0 : 1.5 * logits);

  // A layer's backward: what it saved, made again or not, goes as the gradients of its two halves come.
  const extra = (recompute === 'block' ? 2 * hidden : 0) + 2 * rest;
  const beside = recompute === 'attention' ? hidden : attention;
  const backward = Math.max(beside + inFeedForward, inAttention) + extra;
  const others = (layers: number) => Math.max(0, layers - 1) * kept + hidden;
  // Where GPUs share the gradients, a sum is left in parts once it is made; memory for a GPU's own is there all the time.
  const behind = (made: number) => Math.min(made, FLOAT32 * (GRADIENTS_BEHIND * bucket + outside));
  const ordered = gpus > 1 && options.orderedSums === true;
  const narrow = gpus > 1 && options.reduceType === 'bfloat16';
  // Whether each micro-batch's gradients are summed for themselves.
  const apart = shard !== 'optimizer' || ordered;
  const gradients = (made: number) => {
    if (!apart && (accumulates || !narrow)) return accumulates ? allGradients : made;
    const sums = (apart ? allGradients : made) / gpus;
    // Added where they arrive, in order or of bfloat16: of two buckets, as one is on its way while the one before it is added.
    const inLayersBehind = 2 * BFLOAT16 * GRADIENTS_BEHIND * bucket;
    return sums + (narrow ? Math.min(made, inLayersBehind + FLOAT32 * outside) : (ordered ? 2 : 1) * behind(made));
  };
  const peaks = [
    // At the loss, the last layers' weights alone.
    { buckets: 1, gradients: gradients(0), activations: numLayers * kept + ends + lossForward },
    { buckets: 1, gradients: gradients(headGradient), activations: numLayers * kept + ends + lossBackward },
    { buckets: WEIGHTS_AHEAD, gradients: gradients(headGradient), activations: others(numLayers) + backward },
    {
      ...{ buckets: WEIGHTS_AHEAD, gradients: gradients(allGradients - embeddingGradient) },
      activations: others(1) + backward,
    },
    { buckets: 1, gradients: gradients(allGradients), activations: 2 * hidden },
  ].map(({ buckets, ...one }) => ({
    state: state(buckets),
    ...one,
    total: state(buckets) + one.gradients + one.activations,
  }));
  return peaks.reduce((most, one) => (one.total > most.total ? one : most));
}

/**
 * All weights; those that a matmul reads, in bfloat16, so that there are copies of them; of these the layers', and of them those
 * that may be read in eight bits, which experts' are not.
 */
function countWeights(config: LlamaConfig) {
  let [parameters, copied, inLayers, inEightBits] = [0, 0, 0, 0];
  for (const [name, shape] of parameterShapes(config)) {
    const size = shape.reduce((product, length) => product * length, 1);
    parameters += size;
    const isLookedUp = name === 'model.embed_tokens.weight' && !config.tieEmbeddings;
    if (!name.endsWith('.weight') || shape.length < 2 || isLookedUp || name.includes('head_norm')) continue;
    copied += size;
    if (!name.startsWith('model.layers.')) continue;
    inLayers += size;
    if (shape.length === 2) inEightBits += size;
  }
  return { parameters, copied, inLayers, inEightBits };
}

/** Bytes that a layer's two halves save for their backward, and what their backward holds beside that. */
function layerBytes(
  config: LlamaConfig,
  { tokens, contextLength = config.contextLength, context = 1, contextBy = 'heads' }: TrainingMemoryOptions,
) {
  const inRing = context > 1 && contextBy === 'ring';
  const { hiddenSize, numHeads, numKvHeads, headDim, attention } = config;
  const { kind, setting } = feedForwardOf(config);
  const [q, kv] = [numHeads * headDim, numKvHeads * headDim];
  const stick = attention.kind === 'stick-breaking';
  // Of each row the norm's factor; of each head's row what its softmax or stick came to: in a ring, of every part of the sequence.
  const rows = FLOAT32 * (1 + numHeads * (stick ? 3 * (inRing ? context : 1) : 1));
  const headNorm = stick && 'headNorm' in attention && attention.headNorm ? BFLOAT16 * q + 2 * FLOAT32 * numHeads : 0;
  // Where a sequence is shared by heads, queries, keys and values are there by tokens too; in a ring, keys and values as they are sent.
  const byTokens = context > 1 ? (inRing ? 0 : q) + 2 * kv : 0;
  const inBfloat16 = BFLOAT16 * (2 * hiddenSize + 2 * q + 2 * kv + byTokens);
  const attentionBytes = tokens * (inBfloat16 + rows + headNorm + shaping(config));
  const saved = kind.savedPerToken(setting, config) + (kind.savedBesidesOnGpu?.(setting, config) ?? 0);
  const feedForward = tokens * (BFLOAT16 * saved + FLOAT32);
  const whole = tokens * context;
  const ownHeads = { ...config, numHeads: numHeads / context, numKvHeads: numKvHeads / context };
  const scratch = inRing
    ? ringScratch(config, tokens)
    : attentionScratch(ownHeads, whole, Math.min(contextLength, whole));
  return {
    attention: attentionBytes,
    feedForward,
    /** The most that is there beside the attention's. */
    inFeedForward: tokens * BFLOAT16 * kind.backwardPerToken(setting, config),
    /** The most that is there, the feed-forward's being gone. */
    inAttention: attentionBytes + tokens * BFLOAT16 * (hiddenSize + 2 * q + 2 * kv) + scratch,
  };
}

/**
 * Bytes of each token's queries and keys as they were before a norm, a bias or a turn that makes others of them, and of the
 * output as it is with a sink, in float32, each with its factors.
 */
function shaping({ numHeads, numKvHeads, headDim, attention }: LlamaConfig): number {
  const heads = numHeads + numKvHeads;
  const before = BFLOAT16 * heads * headDim;
  const factors = FLOAT32 * heads;
  // The norm reads them beside the values, which attention then takes in a copy of their own.
  const byHead = attention.qkNorm === true ? before + factors + BFLOAT16 * numKvHeads * headDim : 0;
  const norm = attention.qkNorm === 'projection' ? before + 2 * FLOAT32 : byHead;
  if (attention.kind === 'stick-breaking') return norm + (attention.initialReach === undefined ? 0 : before + factors);
  // Without the norm they are turned where they lie, beside the values, but where their dimensions are put in another order.
  const { position } = attention;
  const isRope = position.kind === 'rope';
  const turn = isRope && (attention.qkNorm || position.rotaryFraction !== undefined) ? before : 0;
  return norm + turn + (attention.sink ? FLOAT32 * numHeads * (headDim + 2) : 0);
}

/**
 * What the attention's backward has beside it where the others' keys and values come round: these, in bfloat16, their gradients, in
 * float32 as they come and go on, the queries' so far, and what is kept between kernels that see every tile.
 */
function ringScratch({ numHeads, numKvHeads, headDim }: LlamaConfig, tokens: number): number {
  const perHead = 2 * FLOAT32 * tokens * (numHeads / numKvHeads) * (tokens / TILE);
  const turns = Math.ceil((perHead * numKvHeads) / ATTENTION_SCRATCH);
  const keys = 2 * numKvHeads * headDim * tokens;
  return (
    (BFLOAT16 + 2 * FLOAT32) * keys + BFLOAT16 * numHeads * headDim * tokens + perHead * Math.ceil(numKvHeads / turns)
  );
}

/** What the attention's backward keeps between its blocks or kernels; it takes heads in turns where that would be much. */
function attentionScratch(config: LlamaConfig, tokens: number, longest: number): number {
  const { numHeads, numKvHeads, headDim, attention } = config;
  const group = numHeads / numKvHeads;
  const biased = 'position' in attention && ['fire', 'forget'].includes(attention.position.kind);
  const inOneKernel = headDim <= TILE && !biased;
  // In one kernel the sums of dK and dV, else two numbers for each row, of sticks for each tile of keys that it sees.
  const perHead = inOneKernel
    ? 2 * FLOAT32 * tokens * (headDim > TILE / 2 ? TILE : TILE / 2)
    : 2 * FLOAT32 * tokens * group * (attention.kind === 'softmax' ? 1 : longest / (2 * TILE));
  const turns = Math.ceil((perHead * numKvHeads) / ATTENTION_SCRATCH);
  return perHead * Math.ceil(numKvHeads / turns);
}

/** What stick-breaking attention keeps to gather rows that look far, from call to call. */
function gatheredRows(
  { contextLength: longestByModel, attention, ...config }: LlamaConfig,
  { tokens: own, contextLength = longestByModel, context = 1, contextBy = 'heads' }: TrainingMemoryOptions,
): number {
  const byHeads = context > 1 && contextBy === 'heads';
  const tokens = byHeads ? own * context : own;
  const longest = Math.min(contextLength, tokens);
  if (attention.kind !== 'stick-breaking' || config.headDim > TILE || longest <= GATHERED_BEYOND) return 0;
  const [heads, kvHeads] = [config.numHeads, config.numKvHeads].map((count) => (byHeads ? count / context : count));
  const dim = config.headDim > TILE / 2 ? TILE : TILE / 2;
  const rows = heads! * tokens;
  // Both ways the output so far, or dQ, in float32. Forward two levels of rows and where they stand; backward rows, two numbers of
  // each, and lists of work in 32 classes.
  const output = FLOAT32 * rows * dim;
  const forward = FLOAT32 * (4 * rows + (9 * rows) / TILE + GATHERED_PARTS * (dim + 3));
  const pairs = ((rows / TILE) * (longest / TILE + 1)) / 2;
  const numbers = 2 * FLOAT32 * TILE * Math.min(MOST_GATHERED_TILES, GATHERED_TILES * pairs);
  const lists = (FLOAT32 * (32 + 10) * (heads! + kvHeads!) * tokens) / TILE;
  const backward = 4 * FLOAT32 * rows + numbers + lists;
  return output + Math.max(forward, backward);
}
