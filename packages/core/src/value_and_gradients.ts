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
  keep,
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

/**
 * Gradients of several inputs, made together. Where an input has a sum of gradients so far, that is consumed and the
 * result is the sum with the gradient.
 */
type Together = (sums: readonly (Tensor | undefined)[]) => readonly Tensor[];
type Addable = (() => Tensor) & { group?: { together: Together; members: readonly (() => Tensor)[] } };

/**
 * Gradients that a backend makes in one go, and that need not be tensors of their own where they are added to what there
 * is.
 *
 * @param alone each gradient by itself: for tfjs's own walk along the tape
 */
export function addable(alone: readonly (() => Tensor)[], together: Together): (() => Tensor)[] {
  const members: (() => Tensor)[] = [];
  const group = { together, members };
  members.push(...alone.map((gradient) => Object.assign(gradient, { group })));
  return members;
}

/** The parts of tfjs's engine that record ops, private in its types. */
interface Recorder {
  state: { activeTape: TapeNode[] | null; gradientDepth: number; kernelDepth: number };
  startTape(): void;
  endTape(): void;
}

/**
 * The value of `f` and its gradients.
 *
 * @param f ops whose result is a scalar
 * @param sums gradients so far, one for each variable; they are consumed, and the new gradients are added to them
 * @param onReady told of each variable's gradient as soon as nothing more is added to it, while others are still to come;
 *   it may give another tensor for it, and has disposed of the first then
 * @returns the scalar and, for each variable, its gradient; undefined if the scalar does not depend on it
 * @throws Error inside another gradient computation: second derivatives are left to tfjs
 */
export function valueAndGradients(
  f: () => Scalar,
  variables: readonly Variable[],
  sums: readonly (Tensor | undefined)[] = [],
  onReady?: OnReady,
): { value: Scalar; gradients: (Tensor | undefined)[] } {
  return tidy(() => differentiate(f, variables, () => ones([]), sums, onReady));
}

type OnReady = (index: number, gradient: Tensor) => Tensor;

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

/** Whether ops go on a tape now, this module's or tfjs's own: a backward will follow. */
export function isRecorded(): boolean {
  const { gradientDepth, kernelDepth } = (engine() as unknown as Recorder).state;
  return gradientDepth > 0 && kernelDepth === 0;
}

function differentiate<T extends Tensor>(
  f: () => T,
  sources: readonly Tensor[],
  dValue: () => Tensor,
  sums: readonly (Tensor | undefined)[] = [],
  onReady?: OnReady,
) {
  const { value, tape } = record(f);
  try {
    return { value, gradients: backpropagate(value, dValue(), tape, sources, sums, onReady) };
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
  onReady?: OnReady,
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
  const zeros = new Zeros();
  const ready = onReady && new Readers(sources, steps, gradients, onReady);
  try {
    ready?.unread();
    for (const node of steps.reverse()) {
      if (node.outputs.some(({ id }) => gradients.has(id))) passOn(node, dependent, gradients, zeros);
      ready?.passed(node);
      release(node);
    }
  } finally {
    zeros.dispose();
  }
  return sources.map(({ id }) => gradients.get(id));
}

/** How many ops that read each source are still to be passed: its gradient is complete after the last of them. */
class Readers {
  private readonly left = new Map<number, number>();
  private readonly index = new Map<number, number>();

  constructor(
    sources: readonly Tensor[],
    steps: readonly TapeNode[],
    private readonly gradients: Map<number, Tensor>,
    private readonly onReady: OnReady,
  ) {
    sources.forEach(({ id }, i) => {
      this.index.set(id, i);
      this.left.set(id, 0);
    });
    for (const node of steps) for (const id of this.readBy(node)) this.left.set(id, this.left.get(id)! + 1);
  }

  private readBy({ inputs }: TapeNode): Set<number> {
    return new Set(Object.values(inputs).flatMap(({ id }) => (this.index.has(id) ? [id] : [])));
  }

  /** Sources that no op reads. */
  unread(): void {
    for (const [id, left] of this.left) if (left === 0) this.tell(id);
  }

  passed(node: TapeNode): void {
    for (const id of this.readBy(node)) {
      const left = this.left.get(id)! - 1;
      this.left.set(id, left);
      if (left === 0) this.tell(id);
    }
  }

  private tell(id: number): void {
    const gradient = this.gradients.get(id);
    if (gradient) this.gradients.set(id, this.onReady(this.index.get(id)!, gradient));
  }
}

/** Zeros of each shape, made once: most layers leave the same outputs unused. */
class Zeros {
  private readonly made = new Map<string, Tensor>();
  of(shape: number[]): Tensor {
    const key = shape.join();
    const found = this.made.get(key);
    if (found) return found;
    const zeros = keep(fill(shape, 0));
    this.made.set(key, zeros);
    return zeros;
  }
  dispose(): void {
    for (const zeros of this.made.values()) zeros.dispose();
  }
}

/** Adds an op's contributions to the gradients of its inputs, and frees the gradients of its outputs. */
function passOn(node: TapeNode, dependent: ReadonlySet<number>, gradients: Map<number, Tensor>, zeros: Zeros): void {
  const inputs = Object.entries(node.inputs).filter(([, { id }]) => dependent.has(id));
  const contributions = tidy(() => {
    // A gradient function expects a gradient for each output; those of unused outputs are zero.
    const dys = node.outputs.map(({ id, shape }) => gradients.get(id) ?? zeros.of(shape));
    if (!node.gradient) throw new Error('an op that the result depends on has no gradient');
    const closures = node.gradient(dys);
    const taken = new Set<Tensor>([...dys, ...node.saved]);
    const made = madeTogether(closures, inputs, gradients);
    return inputs.map(([name]) => {
      const dx = made.get(closures[name]!) ?? closures[name]!();
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

/** The gradients of an op's groups, by their closures, added to the sums so far, which that consumes. */
function madeTogether(
  closures: Record<string, Addable>,
  inputs: readonly [string, Tensor][],
  gradients: Map<number, Tensor>,
): Map<() => Tensor, Tensor> {
  const idOf = new Map(inputs.map(([name, { id }]) => [closures[name]!, id] as const));
  const made = new Map<() => Tensor, Tensor>();
  for (const group of new Set([...idOf.keys()].map((closure) => closure.group))) {
    if (!group) continue;
    const ids = group.members.map((member) => idOf.get(member));
    // A tensor that the op reads twice has one sum and two gradients.
    if (ids.some((id) => id !== undefined && inputs.filter((other) => other[1].id === id).length > 1)) continue;
    const sums = ids.map((id) => (id === undefined ? undefined : gradients.get(id)));
    const results = group.together(sums);
    group.members.forEach((member, i) => {
      if (ids[i] === undefined) return;
      made.set(member, results[i]!);
      if (!sums[i]) return;
      gradients.delete(ids[i]);
      sums[i].dispose();
    });
  }
  return made;
}

function release(node: TapeNode): void {
  for (const tensor of node.saved) tensor.dispose();
  node.saved = [];
}
