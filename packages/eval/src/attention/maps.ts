/** The attention weights of a model on one short text, layer by layer and head by head. */
import { UserError } from '@stickbreaking/base';
import { attentionKind, type LlamaModel } from '@stickbreaking/model';

/** The attention weights of one head on one text of N tokens. */
export interface AttentionMap {
  /** From 0. */
  layer: number;
  head: number;
  /** [N·N] row-major: row the query, column the key, 0 where a key is masked. */
  weights: Float32Array;
  /** [N] what a query gave to no key: one minus the sum of its row; 0 if the attention leaves no remainder. */
  remainder: Float32Array;
}

/** Which layers and heads to look at. */
export interface AttentionMapOptions {
  /** Default: all. */
  layers?: readonly number[];
  heads?: readonly number[];
}

/**
 * Runs the model over `tokens` as one document and gives the weights A[i,j] of the layers and heads asked for.
 *
 * @throws UserError if the model has no such layer or head, or the text is longer than 2,048 tokens
 */
export function attentionMaps(
  model: LlamaModel,
  tokens: ArrayLike<number>,
  options: AttentionMapOptions = {},
): AttentionMap[] {
  const { numLayers, numHeads, attention } = model.config;
  const layers = chosen('layer', options.layers, numLayers);
  const heads = chosen('head', options.heads, numHeads);
  const leavesRemainder = attentionKind(attention).leavesRemainder(attention);
  const length = tokens.length;
  const maps: AttentionMap[] = [];
  const observe = ({ layer, weights }: { layer: number; weights(): { dataSync(): ArrayLike<number> } }) => {
    if (!layers.includes(layer)) return;
    const all = weights().dataSync();
    for (const head of heads) {
      const own = Float32Array.from({ length: length * length }, (_, i) => all[head * length * length + i]!);
      const remainder = leavesRemainder ? remainders(own, length) : new Float32Array(length);
      maps.push({ layer, head, weights: own, remainder });
    }
  };
  model.lastLogits(Int32Array.from(tokens), { observe }).dispose();
  return maps;
}

function remainders(weights: Float32Array, length: number): Float32Array {
  return Float32Array.from({ length }, (_, j) =>
    Math.max(0, 1 - weights.subarray(j * length, (j + 1) * length).reduce((sum, weight) => sum + weight, 0)),
  );
}

function chosen(what: string, wanted: readonly number[] | undefined, count: number): readonly number[] {
  const all = Array.from({ length: count }, (_, i) => i);
  const unknown = wanted?.find((one) => !all.includes(one));
  if (unknown !== undefined) {
    throw new UserError(`The model has no ${what} ${unknown}: its ${count} ${what}s are 0 to ${count - 1}.`);
  }
  return wanted ?? all;
}
