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

/** What a step's routers have done. */
export interface StepRouting {
  metrics: RoutingMetrics;
  /** [layers, experts], how often each expert was chosen */
  counts: readonly (readonly number[])[];
  /** The first layer, from 0, with logits that are not finite. */
  notFinite?: number;
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

  /** What is to be summed over the processes, layer by layer: the two losses, then how often each expert was chosen. */
  async numbers(): Promise<number[]> {
    const { experts, layers } = this;
    if (experts === 0) return [];
    const sums = new Array<number>(layers * (2 + experts)).fill(0);
    // All are asked for before anything is awaited.
    const all = await Promise.all(this.parts.map(({ routing }) => routing.data()));
    for (const [i, { routing, weight }] of this.parts.entries()) {
      routing.dispose();
      for (const [at, value] of all[i]!.entries()) sums[at]! += at % (2 + experts) < 2 ? weight * value : value;
    }
    return sums;
  }

  /** Undefined for a model without experts. */
  of(sums: readonly number[]): StepRouting | undefined {
    const { experts, layers } = this;
    if (experts === 0) return undefined;
    const rows = Array.from({ length: layers }, (_, i) => sums.slice(i * (2 + experts), (i + 1) * (2 + experts)));
    const mean = (at: 0 | 1) => rows.reduce((sum, row) => sum + row[at]!, 0) / layers;
    const counts = rows.map((row) => row.slice(2));
    const shares = counts.map((own) => (Math.max(...own) * experts) / Math.max(1, sumOf(own)));
    const idle = counts.map((own) => own.filter((count) => count === 0).length);
    const notFinite = rows.findIndex((row) => !Number.isFinite(row[1]));
    return {
      metrics: { balanceLoss: mean(0), zLoss: mean(1), busiest: Math.max(...shares), idleExperts: sumOf(idle) },
      counts,
      ...(notFinite < 0 ? {} : { notFinite }),
    };
  }

  /** Frees what was added, where a step is given up. */
  dispose(): void {
    for (const { routing } of this.parts) routing.dispose();
  }
}

const sumOf = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);
