// AdamW over all of a model's parameters at once, with the gradients clipped by their common norm.
import { adamW } from '@stickbreaking/core';
import { type Tensor, tensor, type Variable, variable, zeros } from '@tensorflow/tfjs-core';
import { z } from 'zod';

export const OptimizerSchema = z.strictObject({
  beta1: z.number().min(0).lt(1).default(0.9),
  beta2: z.number().min(0).lt(1).default(0.95),
  epsilon: z.number().positive().default(1e-8),
  /** decoupled: each update takes learningRate · weightDecay of a weight away */
  weightDecay: z.number().nonnegative().default(0.1),
  /** the gradients' global norm is brought down to this; 0: no clipping */
  gradientClip: z.number().nonnegative().default(1),
});

export type OptimizerSettings = z.output<typeof OptimizerSchema>;

export class Optimizer {
  readonly firstMoments = new Map<string, Variable>();
  readonly secondMoments = new Map<string, Variable>();
  private readonly weightDecays: number[];

  constructor(
    readonly parameters: ReadonlyMap<string, Variable>,
    private readonly settings: OptimizerSettings,
    /** updates done so far */
    public updates = 0,
  ) {
    for (const [name, parameter] of parameters) {
      this.firstMoments.set(name, zeroLike(parameter));
      this.secondMoments.set(name, zeroLike(parameter));
    }
    this.weightDecays = [...parameters].map(([name, { rank }]) => (decays(name, rank) ? settings.weightDecay : 0));
  }

  /** Updates the parameters. `gradientNorm` is the gradients' global norm before clipping. */
  update(gradients: ReadonlyMap<string, Tensor>, gradientNorm: number, learningRate: number): void {
    const { beta1, beta2, epsilon, gradientClip } = this.settings;
    this.updates++;
    adamW({
      parameters: [...this.parameters.values()],
      gradients: [...this.parameters.keys()].map((name) => gradients.get(name)!),
      firstMoments: [...this.firstMoments.values()],
      secondMoments: [...this.secondMoments.values()],
      weightDecays: this.weightDecays,
      learningRate,
      beta1,
      beta2,
      epsilon,
      step: this.updates,
      gradientScale: gradientClip > 0 && gradientNorm > gradientClip ? gradientClip / gradientNorm : 1,
    });
  }

  /** The moments under the names they are saved by. */
  state(): Map<string, Variable> {
    const named = (kind: string, moments: ReadonlyMap<string, Variable>) =>
      [...moments].map(([name, moment]) => [`${kind}.${name}`, moment] as const);
    return new Map([...named('firstMoment', this.firstMoments), ...named('secondMoment', this.secondMoments)]);
  }

  /** Takes saved moments over, by the names of `state`. */
  restore(values: (name: string, shape: readonly number[]) => Float32Array): void {
    for (const [name, moment] of this.state()) {
      const saved = tensor(values(name, moment.shape), moment.shape);
      moment.assign(saved);
      saved.dispose();
    }
  }

  dispose(): void {
    for (const moment of this.state().values()) moment.dispose();
  }
}

/** Weight matrices decay; norms, biases and other vectors do not. */
export function decays(name: string, rank: number): boolean {
  return rank >= 2 && !/norm|bias/.test(name);
}

function zeroLike(parameter: Variable): Variable {
  const initial = zeros(parameter.shape);
  const result = variable(initial, false);
  initial.dispose();
  return result;
}
