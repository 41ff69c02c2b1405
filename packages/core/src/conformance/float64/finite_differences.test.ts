/** The float64 formulas' analytic gradients against their own central differences. */
import { chooseSeed, seededRandom } from '@stickbreaking/base';
import { expect, it } from 'vitest';
import type { Fire64 } from './fire.js';
import * as layers from './layers.js';
import { type Mixture64, mixture64 } from './mixture.js';
import { dot, type PackedLayout, type Values } from './packed.js';
import { rotate64 } from './positions.js';
import { type Position64, softmax64 } from './softmax.js';
import { stickBreaking64 } from './stick_breaking.js';

const seed = chooseSeed();
const random = seededRandom(seed, 'finite differences');
const draw = (count: number) => Float64Array.from(random.normals(count));

/** d f / d x by central differences; their error is of the order of 1e-9. */
function differences(x: Values, f: () => number): Float64Array {
  const step = 1e-5;
  return Float64Array.from(x, (value, i) => {
    const at = (moved: number) => {
      x[i] = moved;
      return f();
    };
    const slope = (at(value + step) - at(value - step)) / (2 * step);
    x[i] = value;
    return slope;
  });
}

function agree(name: string, gradient: Values, x: Values, f: () => number): void {
  const expected = differences(x, f);
  expect(gradient.length).toBe(expected.length);
  expected.forEach((value, i) => {
    const off = Math.abs(value - gradient[i]!);
    expect(off, `${name}[${i}] is ${gradient[i]}, by differences ${value}; seed ${seed}`).toBeLessThan(
      1e-6 * Math.max(1, Math.abs(value)),
    );
  });
}

const weigh = (values: Values, by: Values) => dot(values, 0, by, 0, values.length);

const layout: PackedLayout = {
  heads: 4,
  kvHeads: 2,
  headDim: 6,
  cuSeqlens: [0, 3, 3, 4, 9],
  cuSeqlensK: [0, 3, 5, 10, 15],
  scale: 0.7,
};
const inputs = {
  q: draw(9 * 4 * 6),
  k: draw(15 * 2 * 6),
  v: draw(15 * 2 * 6),
  dOutput: draw(9 * 4 * 6),
  dRemainder: draw(9 * 4),
};
const logForget = draw(15 * 2).map((gate) => -Math.abs(gate));
const fire: Fire64 = {
  w1: draw(3),
  b1: draw(3),
  w2: draw(12),
  b2: draw(4),
  c: Float64Array.of(-0.3),
  thresholdMultiplier: Float64Array.of(0.9),
  initialThreshold: 2.5,
};

for (const attendCurrent of [false, true]) {
  it(`stick-breaking, attendCurrent ${attendCurrent}`, () => {
    const loss = () => {
      const { output, remainder } = stickBreaking64(inputs, layout, attendCurrent);
      return weigh(output, inputs.dOutput) + weigh(remainder, inputs.dRemainder);
    };
    const { dq, dk, dv, remainder, output } = stickBreaking64(inputs, layout, attendCurrent);
    agree('dq', dq, inputs.q, loss);
    agree('dk', dk, inputs.k, loss);
    agree('dv', dv, inputs.v, loss);
    if (!attendCurrent) expect([output[0], remainder[0]]).toEqual([0, 1]);
  });
}

const positions: Record<string, Position64> = {
  none: { kind: 'none' },
  'dynamic RoPE': { kind: 'rope', theta: 100, scaling: { kind: 'dynamic', factor: 2, originalContextLength: 3 } },
  ALiBi: { kind: 'alibi' },
  FIRE: { kind: 'fire', fire },
  'forget gates': { kind: 'forget', logForget },
};
for (const [name, position] of Object.entries(positions)) {
  for (const window of [0, 2]) {
    it(`softmax with ${name}, window ${window}`, () => {
      const loss = () => weigh(softmax64(inputs, layout, position, window).output, inputs.dOutput);
      const result = softmax64(inputs, layout, position, window);
      agree('dq', result.dq, inputs.q, loss);
      agree('dk', result.dk, inputs.k, loss);
      agree('dv', result.dv, inputs.v, loss);
      if (position.kind === 'forget') agree('dLogForget', result.dLogForget, logForget, loss);
      if (!result.fire) return;
      const { w1, b1, w2, b2, c, thresholdMultiplier } = fire;
      for (const [part, x] of Object.entries({ w1, b1, w2, b2, c, thresholdMultiplier }))
        agree(part, result.fire.sums[part as 'c'], x, loss);
    });
  }
}

it('softmax with sinks', () => {
  const withSinks = { ...inputs, sink: draw(layout.heads) };
  const loss = () => weigh(softmax64(withSinks, layout, { kind: 'alibi' }).output, inputs.dOutput);
  const result = softmax64(withSinks, layout, { kind: 'alibi' });
  agree('dq', result.dq, inputs.q, loss);
  agree('dk', result.dk, inputs.k, loss);
  agree('dv', result.dv, inputs.v, loss);
  agree('dSink', result.dSink, withSinks.sink, loss);
});

it('rotary embedding', () => {
  const [x, dy] = [draw(3 * 2 * 4), draw(3 * 2 * 4)];
  const angles = (row: number) => ({ position: 5 * row + 1, frequencies: Float64Array.of(0.7, 0.1) });
  agree('dx', rotate64(dy, 2, 4, angles, -1), x, () => weigh(rotate64(x, 2, 4, angles), dy));
});

it('the ops beside attention', () => {
  const [x, dy, weight] = [draw(15), draw(15), draw(5)];
  const norm = layers.rmsNorm64(x, weight, 0.1, dy);
  const normLoss = () => weigh(layers.rmsNorm64(x, weight, 0.1, dy).y, dy);
  agree('rmsNorm dx', norm.dx, x, normLoss);
  agree('rmsNorm dWeight', norm.dWeight, weight, normLoss);

  const [branch, dSum, constants] = [draw(15), draw(15), { epsilon: 0.1, multiplier: 0.3 }];
  const joined = () => layers.residualRmsNorm64(x, branch, weight, constants, { dSum, dy });
  const joinedLoss = () => weigh(joined().sum, dSum) + weigh(joined().y, dy);
  const joinedNow = joined();
  agree('residualRmsNorm dx', joinedNow.dx, x, joinedLoss);
  agree('residualRmsNorm dBranch', joinedNow.dBranch, branch, joinedLoss);
  agree('residualRmsNorm dWeight', joinedNow.dWeight, weight, joinedLoss);

  const up = draw(15);
  const gated = layers.swiGlu64(x, up, dy);
  const gateLoss = () => weigh(layers.swiGlu64(x, up, dy).y, dy);
  agree('swiGlu dGate', gated.dGate, x, gateLoss);
  agree('swiGlu dUp', gated.dUp, up, gateLoss);

  const [heads, dHeads, headWeight, headBias] = [draw(24), draw(24), draw(8), draw(8)];
  const headed = layers.headNorm64(heads, headWeight, headBias, 4, 0.1, dHeads);
  const headLoss = () => weigh(layers.headNorm64(heads, headWeight, headBias, 4, 0.1, dHeads).y, dHeads);
  agree('headNorm dx', headed.dx, heads, headLoss);
  agree('headNorm dWeight', headed.dWeight, headWeight, headLoss);
  agree('headNorm dBias', headed.dBias, headBias, headLoss);

  const remainder = draw(6);
  const biased = layers.remainderBias64(heads, remainder, headBias, 4, dHeads);
  const biasLoss = () => weigh(layers.remainderBias64(heads, remainder, headBias, 4, dHeads).y, dHeads);
  agree('remainderBias dRemainder', biased.dRemainder, remainder, biasLoss);
  agree('remainderBias dBias', biased.dBias, headBias, biasLoss);

  const [matrix, dLinear] = [draw(20), draw(12)];
  const product = layers.linear64(x, matrix, 5, dLinear);
  const linearLoss = () => weigh(layers.linear64(x, matrix, 5, dLinear).y, dLinear);
  agree('linear dx', product.dx, x, linearLoss);
  agree('linear dWeight', product.dWeight, matrix, linearLoss);

  const tokens = Int32Array.of(2, 0, 2);
  const looked = layers.embedding64(tokens, matrix, 5, dy);
  agree('embedding dWeight', looked.dWeight, matrix, () => weigh(layers.embedding64(tokens, matrix, 5, dy).y, dy));

  const [targets, dLoss, options] = [Int32Array.of(1, -1, 3), draw(3), { width: 5, logitScale: 0.6, ignoreIndex: -1 }];
  const head = layers.linearCrossEntropy64(x, matrix, targets, options, dLoss);
  const crossLoss = () => weigh(layers.linearCrossEntropy64(x, matrix, targets, options, dLoss).loss, dLoss);
  agree('linearCrossEntropy dHidden', head.dHidden, x, crossLoss);
  agree('linearCrossEntropy dWeight', head.dWeight, matrix, crossLoss);
});

it('a mixture of experts with the losses of its routing', () => {
  const sizes = { width: 5, units: 3, experts: 4, active: 2, balanceWeight: 3, zWeight: 0.7 };
  const mixture: Mixture64 = { x: draw(7 * 5), router: draw(4 * 5), input: draw(4 * 6 * 5), output: draw(4 * 5 * 3) };
  const dy = draw(7 * 5);
  const counts = mixture64(mixture, sizes, dy).routing.slice(2);
  // With the shares as they are: a token that changes its expert would be a jump.
  const loss = () => {
    const { y, routing, probabilities } = mixture64(mixture, sizes, dy);
    const balance = weigh(probabilities, counts) * (4 / (7 * 2));
    return weigh(y, dy) + sizes.balanceWeight * balance + sizes.zWeight * routing[1]!;
  };
  const { routing, probabilities, ...gradients } = mixture64(mixture, sizes, dy);
  expect(routing[0]).toBeCloseTo(weigh(probabilities, counts) * (4 / 14), 12);
  agree('dx', gradients.dx, mixture.x, loss);
  agree('dRouter', gradients.dRouter, mixture.router, loss);
  agree('dInput', gradients.dInput, mixture.input, loss);
  agree('dOutput', gradients.dOutput, mixture.output, loss);
});
