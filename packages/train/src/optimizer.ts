// AdamW over all of a model's parameters at once, with the gradients clipped by their common norm.
import { adamW, toBfloat16 } from '@stickbreaking/core';
import { nonNegative, positive } from '@stickbreaking/model';
import {
  add,
  div,
  minimum,
  mul,
  type Scalar,
  scalar,
  type Tensor,
  tensor,
  tidy,
  type Variable,
  variable,
  zeros,
} from '@tensorflow/tfjs-core';
import { z } from 'zod';

/** Kernels take it in float32: where that is 1, nothing comes to a moment. */
const beta = z
  .number()
  .min(0)
  .lt(1)
  .refine((value) => value >= 1 || Math.fround(value) < 1, 'expected a number that float32 tells from 1');

/** The schema of the optimizer's settings, with their defaults. */
export const OptimizerSchema = z.strictObject({
  beta1: beta.default(0.9),
  beta2: beta.default(0.95),
  epsilon: positive().default(1e-8),
  /** Decoupled: each update subtracts learningRate · weightDecay times the weight. */
  weightDecay: nonNegative().default(0.1),
  /** The gradients are scaled down to this global norm; 0: no clipping. */
  gradientClip: nonNegative().default(1),
  /**
   * Factor on the learning rate of the layers' weight matrices. Maximal update parametrisation asks for 1 / (hidden size
   * / hidden size of the model that was tuned); embeddings, head, norms and biases keep the rate.
   */
  hiddenLearningRateScale: positive().default(1),
  /**
   * 'bfloat16': the moments take half the memory; they are rounded up or down at random, so that small changes add up. The
   * random numbers follow from the step, so a run that goes on gives the same bits.
   */
  momentType: z.enum(['float32', 'bfloat16']).optional(),
});

/** The optimizer's settings, with all defaults filled in. */
export type OptimizerSettings = z.output<typeof OptimizerSchema>;

/** What the names begin with that the moments are saved by. */
export const MOMENTS = ['firstMoment', 'secondMoment'] as const;

/** AdamW over all parameters of a model. */
export class Optimizer {
  /** Updates done so far. */
  updates: number;
  readonly firstMoments = new Map<string, Variable>();
  readonly secondMoments = new Map<string, Variable>();
  /** Both, by what the names that they are saved by begin with. */
  readonly moments = [
    [MOMENTS[0], this.firstMoments],
    [MOMENTS[1], this.secondMoments],
  ] as const;
  private readonly groups: { names: string[]; rateScale: number }[];

  constructor(
    readonly parameters: ReadonlyMap<string, Variable>,
    private readonly settings: OptimizerSettings,
    /**
     * `updates` done so far; `apart`: what is outside the layers is updated first, by itself, and can be sent on
     * meanwhile; `restored`: there are no moments, all of which `restore` brings before anything else is asked for.
     */
    { updates = 0, apart = false, restored = false }: { updates?: number; apart?: boolean; restored?: boolean } = {},
  ) {
    this.updates = updates;
    for (const [name, parameter] of parameters) {
      // In place of those to come, so that they stand in the order of the parameters.
      const shape = restored ? [] : parameter.shape;
      this.firstMoments.set(name, this.moment(zeros(shape)));
      this.secondMoments.set(name, this.moment(zeros(shape)));
    }
    const names = [...parameters.keys()];
    const { hiddenLearningRateScale: rateScale } = settings;
    const inSecond = (name: string) => (apart || rateScale !== 1) && isHidden(name, parameters.get(name)!.rank);
    this.groups = [
      { names: names.filter((name) => !inSecond(name)), rateScale: 1 },
      { names: names.filter(inSecond), rateScale },
    ];
  }

  /**
   * Updates the parameters.
   *
   * @param gradientNorm the gradients' global norm before clipping: as a tensor, where the host does not know it yet.
   *   If it turns
   *   out not to be finite, nothing was updated, and `takeBack` is for the caller to call.
   * @param onUpdated told when what is outside the layers has been updated, and when all has
   */
  update(
    gradients: ReadonlyMap<string, Tensor>,
    gradientNorm: number | Scalar,
    learningRate: number,
    onUpdated?: (isAll: boolean) => void,
  ): void {
    const { beta1, beta2, epsilon, gradientClip, weightDecay, momentType } = this.settings;
    this.updates++;
    const known = typeof gradientNorm === 'number';
    const scale = known ? undefined : clippingScale(gradientNorm, gradientClip);
    const gradientScale = known && gradientClip > 0 && gradientNorm > gradientClip ? gradientClip / gradientNorm : 1;
    for (const [i, { names, rateScale }] of this.groups.entries()) {
      const of = <T>(tensors: ReadonlyMap<string, T>) => names.map((name) => tensors.get(name)!);
      if (names.length > 0)
        adamW({
          parameters: of(this.parameters),
          gradients: of(gradients),
          firstMoments: of(this.firstMoments),
          secondMoments: of(this.secondMoments),
          weightDecays: of(this.parameters).map(({ rank }, p) => (decays(names[p]!, rank) ? weightDecay : 0)),
          learningRate: learningRate * rateScale,
          beta1,
          beta2,
          epsilon,
          step: this.updates,
          ...(momentType ? { momentType } : {}),
          gradientScale,
          ...(scale ? { scale } : {}),
        });
      onUpdated?.(i > 0);
    }
    scale?.dispose();
  }

  /** The last update did not happen. */
  takeBack(): void {
    this.updates--;
  }

  /** The moments under the names they are saved by. */
  state(): Map<string, Variable> {
    const named = this.moments.flatMap(([kind, moments]) =>
      [...moments].map(([name, moment]) => [`${kind}.${name}`, moment] as const),
    );
    return new Map(named);
  }

  /** Restores a saved moment, by its name of `state`. */
  restore(name: string, values: Float32Array): void {
    const end = name.indexOf('.');
    const parameter = name.slice(end + 1);
    const moments = this.moments.find(([kind]) => kind === name.slice(0, end))![1];
    moments.get(parameter)!.dispose();
    moments.set(parameter, this.moment(tensor(values, this.parameters.get(parameter)!.shape)));
  }

  /** In the form that moments are kept in; consumes `values`. */
  private kept(values: Tensor): Tensor {
    if (this.settings.momentType !== 'bfloat16') return values;
    const narrow = toBfloat16(values);
    values.dispose();
    return narrow;
  }

  /** Consumes the values. */
  private moment(values: Tensor): Variable {
    const initial = this.kept(values);
    const moment = variable(initial, false);
    initial.dispose();
    return moment;
  }

  /** Frees the moments. */
  dispose(): void {
    for (const moment of this.state().values()) moment.dispose();
  }
}

/** What gradients of this norm are multiplied by; not a number where the norm is not finite. */
function clippingScale(norm: Scalar, clip: number): Scalar {
  return tidy(() => {
    const one = clip > 0 ? minimum<Scalar>(div(scalar(clip), norm), 1) : scalar(1);
    return add<Scalar>(one, mul(norm, 0));
  });
}

/** Weight matrices decay; norms, biases and other vectors do not. */
export function decays(name: string, rank: number): boolean {
  return rank >= 2 && !/norm|bias/.test(name);
}

/** The weight matrices inside the layers: all that turn hidden states into hidden states. */
function isHidden(name: string, rank: number): boolean {
  return decays(name, rank) && name.startsWith('model.layers.');
}
