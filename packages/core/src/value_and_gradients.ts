/**
 * A value and its gradients with little memory: tfjs's own `grads` holds every saved activation and every intermediate
 * gradient until the backward is over. Here the tape is walked by hand: what an op saved is freed once its gradient has
 * been computed, and an intermediate gradient once it has been passed on. The ops, their gradients and the tape are
 * tfjs's.
 */
import {
  add,
  clone,
  customGrad,
  engine,
  fill,
  type GradSaveFunc,
  ones,
  type Scalar,
  type Tensor,
  tidy,
  type Variable,
  zerosLike,
} from '@tensorflow/tfjs-core';

interface TapeNode {
  inputs: Record<string, Tensor>;
  outputs: Tensor[];
  saved: Tensor[];
  gradient?: (dys: Tensor[]) => Record<string, Addable>;
}

/** A gradient as a closure, and how to add it to a sum, which that consumes. */
type Addable = (() => Tensor) & { addTo?: (sum: Tensor) => Tensor };

/** A gradient that can be added to an existing sum without becoming a tensor of its own. */
export function addable(gradient: () => Tensor, addTo: (sum: Tensor) => Tensor): () => Tensor {
  return Object.assign(gradient, { addTo });
}

/** The parts of tfjs's engine that record ops, private in its types. */
interface Recorder {
  state: { activeTape: TapeNode[] | null; gradientDepth: number };
  startTape(): void;
  endTape(): void;
}

/**
 * The value of `f` and its gradients.
 *
 * @param f ops whose result is a scalar
 * @param sums gradients so far, one for each variable; they are consumed, and the new gradients are added to them
 * @returns the scalar and, for each variable, its gradient; undefined if the scalar does not depend on it
 * @throws Error inside another gradient computation: second derivatives are left to tfjs
 */
export function valueAndGradients(
  f: () => Scalar,
  variables: readonly Variable[],
  sums: readonly (Tensor | undefined)[] = [],
): { value: Scalar; gradients: (Tensor | undefined)[] } {
  return tidy(() => differentiate(f, variables, () => ones([]), sums));
}

/**
 * The value of `f(x)`, keeping only x for the backward, where f runs once more: less memory for more time.
 *
 * @param f ops on x and on the variables named, whose results depend on nothing else that is trained
 */
export function recomputed<T extends Tensor>(f: (x: T) => T, x: T, variables: readonly Variable[]): T {
  const kept = customGrad((...args) => {
    const save = args.pop() as GradSaveFunc;
    const input = args[0] as Tensor as T;
    save([input]);
    const gradFunc = (dy: Tensor, [saved]: Tensor[]) => {
      const sources = [saved!, ...variables];
      const { gradients } = differentiate(
        () => f(saved as T),
        sources,
        () => clone(dy),
      );
      return sources.map((source, i) => gradients[i] ?? zerosLike(source));
    };
    return { value: f(input), gradFunc };
  });
  return kept(x, ...variables) as T;
}

function differentiate<T extends Tensor>(
  f: () => T,
  sources: readonly Tensor[],
  dValue: () => Tensor,
  sums: readonly (Tensor | undefined)[] = [],
) {
  const { value, tape } = record(f);
  try {
    return { value, gradients: backpropagate(value, dValue(), tape, sources, sums) };
  } finally {
    for (const node of tape) release(node);
  }
}

function record<T extends Tensor>(f: () => T): { value: T; tape: TapeNode[] } {
  const recorder = engine() as unknown as Recorder;
  if (recorder.state.gradientDepth > 0) throw new Error('valueAndGradients does not work inside another gradient.');
  const outer = recorder.state.activeTape;
  recorder.startTape();
  try {
    const value = tidy(f);
    return { value, tape: recorder.state.activeTape! };
  } catch (error) {
    for (const node of recorder.state.activeTape ?? []) release(node);
    throw error;
  } finally {
    recorder.endTape();
    recorder.state.activeTape = outer;
  }
}

function backpropagate(
  value: Tensor,
  dValue: Tensor,
  tape: readonly TapeNode[],
  sources: readonly Tensor[],
  sums: readonly (Tensor | undefined)[],
) {
  // Ops that depend on a source; the others need no gradient.
  const dependent = new Set(sources.map(({ id }) => id));
  const steps = tape.filter((node) => {
    const depends = Object.values(node.inputs).some(({ id }) => dependent.has(id));
    if (depends) for (const { id } of node.outputs) dependent.add(id);
    else release(node);
    return depends;
  });
  const gradients = new Map<number, Tensor>([[value.id, dValue]]);
  sources.forEach(({ id }, i) => {
    const sum = sums[i];
    if (sum) gradients.set(id, sum);
  });
  for (const node of steps.reverse()) {
    if (node.outputs.some(({ id }) => gradients.has(id))) passOn(node, dependent, gradients);
    release(node);
  }
  return sources.map(({ id }) => gradients.get(id));
}

/** Adds an op's contributions to the gradients of its inputs, and frees the gradients of its outputs. */
function passOn(node: TapeNode, dependent: ReadonlySet<number>, gradients: Map<number, Tensor>): void {
  const inputs = Object.entries(node.inputs).filter(([, { id }]) => dependent.has(id));
  const contributions = tidy(() => {
    // A gradient function expects a gradient for each output; those of unused outputs are zero.
    const dys = node.outputs.map(({ id, shape }) => gradients.get(id) ?? fill(shape, 0));
    if (!node.gradient) throw new Error('an op that the result depends on has no gradient');
    const closures = node.gradient(dys);
    const taken = new Set<Tensor>([...dys, ...node.saved]);
    return inputs.map(([name, { id }]) => {
      const closure = closures[name]!;
      const sum = gradients.get(id);
      const once = inputs.filter((other) => other[1].id === id).length === 1;
      if (sum && closure.addTo && once) {
        gradients.delete(id);
        return replaced(sum, closure.addTo(sum));
      }
      const dx = closure();
      // Each contribution is disposed of separately.
      const own = taken.has(dx) ? clone(dx) : dx;
      taken.add(own);
      return own;
    });
  });
  for (const { id } of node.outputs) {
    gradients.get(id)?.dispose();
    gradients.delete(id);
  }
  inputs.forEach(([, { id }], i) => {
    const contribution = contributions[i]!;
    const before = gradients.get(id);
    gradients.set(id, before ? add(before, contribution) : contribution);
    if (!before) return;
    before.dispose();
    contribution.dispose();
  });
}

/** `next`, after disposing of what it replaces. */
function replaced(before: Tensor, next: Tensor): Tensor {
  before.dispose();
  return next;
}

function release(node: TapeNode): void {
  for (const tensor of node.saved) tensor.dispose();
  node.saved = [];
}
