/**
 * Declaring parameters. A part of a model declares its parameters as a record; the model creates them, in the order of
 * the records, and passes them to the part as weights with the same names, each of the rank it was declared with.
 */
import { type Rank, Variable } from '@tensorflow/tfjs-core';

export type Shape = readonly [number] | readonly [number, number] | readonly [number, number, number];

/** Fills in initial values from `random`, whose numbers are uniform in [0, 1). */
export type Initializer = (values: Float32Array, random: () => number) => void;

export interface Parameter<S extends Shape = Shape> {
  /** Its name in `model.safetensors`, as Hugging Face has it; in a layer, without the layer's prefix. */
  readonly name: string;
  /** Weight matrices are [out, in]. */
  readonly shape: S;
  readonly initial: Initializer;
}

/** Parameters by the names used in the code; what a configuration leaves out is undefined. */
export interface ParameterTree {
  readonly [name: string]: Parameter | ParameterTree | readonly ParameterTree[] | undefined;
}

/** The variables for a tree of parameters. */
export type Weights<T> =
  T extends Parameter<infer S>
    ? WeightOf<S>
    : T extends undefined
      ? undefined
      : { readonly [K in keyof T]: Weights<T[K]> };

type WeightOf<S extends Shape> = S extends readonly [number]
  ? Variable<Rank.R1>
  : S extends readonly [number, number]
    ? Variable<Rank.R2>
    : Variable<Rank.R3>;

type Node = Parameter | ParameterTree | readonly ParameterTree[];

export function parameter<const S extends Shape>(name: string, shape: S, initial: Initializer): Parameter<S> {
  return { name, shape, initial };
}

/** The same parameters with `prefix` in front of their names. */
export function prefixed<T extends ParameterTree>(prefix: string, tree: T): T {
  return mapTree(tree, (one) => ({ ...one, name: prefix + one.name })) as T;
}

/** All parameters of a tree, in its order. */
export function parametersIn(tree: ParameterTree): Parameter[] {
  const all: Parameter[] = [];
  mapTree(tree, (one) => all.push(one));
  return all;
}

/** The weights of a tree; `variables` holds each by its name, in its declared shape. */
export function weightsOf<T extends ParameterTree>(tree: T, variables: ReadonlyMap<string, Variable>): Weights<T> {
  return mapTree(tree, ({ name }) => variables.get(name)!) as Weights<T>;
}

/** All variables in a part of the weights, in order. */
export function variablesIn(weights: object): Variable[] {
  if (weights instanceof Variable) return [weights];
  return Object.values(weights).flatMap((one: object | undefined) => (one ? variablesIn(one) : []));
}

function mapTree(node: Node, change: (one: Parameter) => unknown): unknown {
  if (isParameter(node)) return change(node);
  if (Array.isArray(node)) return node.map((one) => mapTree(one, change));
  return Object.fromEntries(Object.entries(node).map(([name, one]) => [name, one && mapTree(one, change)]));
}

const isParameter = (node: Node): node is Parameter => typeof (node as Parameter).initial === 'function';

export const constant =
  (value: number): Initializer =>
  (values) =>
    values.fill(value);

export const zeros = constant(0);
export const ones = constant(1);

/** Uniform between −bound and bound. */
export const uniform =
  (bound: number): Initializer =>
  (values, random) => {
    for (let i = 0; i < values.length; i++) values[i] = (2 * random() - 1) * bound;
  };

/** Normal around 0: two numbers from two uniform ones (Box and Muller). */
export const normal =
  (standardDeviation: number): Initializer =>
  (values, random) => {
    for (let i = 0; i < values.length; i += 2) {
      const radius = standardDeviation * Math.sqrt(-2 * Math.log(1 - random()));
      const angle = 2 * Math.PI * random();
      values[i] = radius * Math.cos(angle);
      if (i + 1 < values.length) values[i + 1] = radius * Math.sin(angle);
    }
  };
