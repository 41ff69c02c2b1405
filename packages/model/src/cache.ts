/**
 * Keys and values of the tokens so far, layer by layer, for one document. Keys are stored as projected, before any
 * rotation, so every attention kind shares the cache. Appending copies what is there, which, like attention itself, is
 * linear in the context.
 */
import { concat, keep, type Tensor3D } from '@tensorflow/tfjs-core';

interface LayerCache {
  k: Tensor3D;
  v: Tensor3D;
}

/** The keys and values of one document so far; `LlamaModel.createCache` makes one. */
export class KeyValueCache {
  private readonly layers: LayerCache[] = [];

  /** Tokens held. */
  get length(): number {
    return this.layers[0]?.k.shape[0] ?? 0;
  }

  /** Adds a layer's new keys and values [N, K, D]; returns all of that layer's, which the cache owns. */
  append(layer: number, k: Tensor3D, v: Tensor3D): LayerCache {
    const old = this.layers[layer];
    const grown = old ? { k: concat([old.k, k], 0), v: concat([old.v, v], 0) } : { k: k.clone(), v: v.clone() };
    this.layers[layer] = { k: keep(grown.k), v: keep(grown.v) };
    old?.k.dispose();
    old?.v.dispose();
    return this.layers[layer];
  }

  /** Frees all keys and values; the cache is then empty. */
  dispose(): void {
    for (const { k, v } of this.layers.splice(0)) {
      k.dispose();
      v.dispose();
    }
  }
}
