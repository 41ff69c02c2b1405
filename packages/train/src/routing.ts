// Where a step's routers have sent the tokens, over its micro-batches and all processes.
import { type LlamaConfig, routedExperts } from '@stickbreaking/model';
import type { Tensor } from '@tensorflow/tfjs-core';

/** What metrics.jsonl says of a model with experts. A loss that was not finite is null there. */
export interface RoutingMetrics {
  /** the mean of the layers' balance losses: 1 where every expert has as many tokens, experts / active at worst */
  balanceLoss: number;
  /** the mean of the layers' z losses, mean logSumExp² of the router's logits */
  zLoss: number;
  /** the largest share of its layer's choices that an expert has, times the number of experts: 1 where all are even */
  busiest: number;
  /** experts that no token chose, over all layers */
  idleExperts: number;
}

/** Sums of a step's routings. */
export class RoutingSums {
  private readonly parts: { routing: Tensor; weight: number }[] = [];
  private readonly experts: number;
  private readonly layers: number;

  constructor(config: LlamaConfig) {
    this.experts = routedExperts(config);
    this.layers = config.numLayers;
  }

  /**
   * @param routing as the model's `gradients` give it; consumed
   * @param weight the micro-batch's share of the step
   */
  add(routing: Tensor | undefined, weight: number): void {
    if (routing) this.parts.push({ routing, weight });
  }

  /** What is to be summed over the processes: the two losses, then how often each expert of each layer was chosen. */
  async numbers(): Promise<number[]> {
    const { experts, layers } = this;
    if (experts === 0) return [];
    const sums = new Array<number>(2 + layers * experts).fill(0);
    // All are asked for before anything is awaited.
    const all = await Promise.all(this.parts.map(({ routing }) => routing.data()));
    for (const [i, { routing, weight }] of this.parts.entries()) {
      const values = all[i]!;
      routing.dispose();
      for (let layer = 0; layer < layers; layer++) {
        const row = values.subarray(layer * (2 + experts), (layer + 1) * (2 + experts));
        for (const at of [0, 1]) sums[at]! += (weight / layers) * row[at]!;
        for (let e = 0; e < experts; e++) sums[2 + layer * experts + e]! += row[2 + e]!;
      }
    }
    return sums;
  }

  /** Undefined for a model without experts. */
  metrics(sums: readonly number[]): RoutingMetrics | undefined {
    const { experts, layers } = this;
    if (experts === 0) return undefined;
    const [balanceLoss, zLoss, ...counts] = sums as [number, number, ...number[]];
    let busiest = 0;
    for (let layer = 0; layer < layers; layer++) {
      const own = counts.slice(layer * experts, (layer + 1) * experts);
      const all = own.reduce((sum, count) => sum + count, 0);
      busiest = Math.max(busiest, (Math.max(...own) * experts) / Math.max(1, all));
    }
    return { balanceLoss, zLoss, busiest, idleExperts: counts.filter((count) => count === 0).length };
  }

  /** Frees what was added, where a step is given up. */
  dispose(): void {
    for (const { routing } of this.parts) routing.dispose();
  }
}
