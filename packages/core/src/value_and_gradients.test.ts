import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, expect, test } from 'vitest';
import { linears, recomputed, residual, rmsNorm, selectBackend, swiGlu, valueAndGradients } from './index.js';

beforeAll(() => selectBackend('cpu'));

function setUp() {
  const [a, b, unused] = [0, 1, 2].map(() => tf.variable(tf.randomNormal([5, 5])));
  const gain = tf.variable(tf.randomNormal([5]));
  // Reuse of a value, an identity, several outputs of which one is used, and an op with an attribute.
  const f = () => {
    const x = tf.matMul(a!, b!);
    const normed = rmsNorm(x as tf.Tensor2D, gain as tf.Tensor as tf.Tensor1D);
    const gated = swiGlu(normed, x as tf.Tensor2D);
    return tf.sum(tf.mul(residual(gated, x as tf.Tensor2D, 0.3), residual(x as tf.Tensor2D, normed))) as tf.Scalar;
  };
  return { f, variables: [a!, b!, gain, unused!] as tf.Variable[] };
}

test("gives tfjs's own gradients, and undefined where nothing depends on a variable", () => {
  const { f, variables } = setUp();
  const expected = tf.variableGrads(f, variables.slice(0, 3));
  const { value, gradients } = valueAndGradients(f, variables);
  expect(value.dataSync()[0]).toBeCloseTo(expected.value.dataSync()[0]!, 3);
  for (let i = 0; i < 3; i++) {
    const difference = tf.sub(gradients[i]!, expected.grads[variables[i]!.name]!).abs().max().dataSync()[0];
    expect(difference).toBeLessThan(1e-3);
  }
  expect(gradients[3]).toBeUndefined();
});

test('leaves nothing behind but what it returns, also when the function throws', () => {
  const { f, variables } = setUp();
  const before = tf.memory().numTensors;
  const { value, gradients } = valueAndGradients(f, variables);
  tf.dispose([value, ...gradients.filter((one) => one !== undefined)]);
  expect(tf.memory().numTensors).toBe(before);
  const failing = () => {
    f();
    throw new Error('half-way');
  };
  expect(() => valueAndGradients(failing, variables)).toThrow('half-way');
  expect(tf.memory().numTensors).toBe(before);
});

test('holds less at its peak than keeping all until the end', () => {
  const weights = Array.from({ length: 24 }, () => tf.variable(tf.randomNormal([64, 64])));
  const input = tf.randomNormal([64, 64]);
  const f = () => tf.sum(weights.reduce((x: tf.Tensor, w) => tf.matMul(x, w), input)) as tf.Scalar;
  const peak = (run: () => void) => {
    const start = tf.memory().numTensors;
    let most = 0;
    const add = tf.getKernel('BatchMatMul', 'cpu')!;
    const original = add.kernelFunc;
    add.kernelFunc = (parameters) => {
      most = Math.max(most, tf.memory().numTensors - start);
      return original(parameters);
    };
    tf.tidy(run);
    add.kernelFunc = original;
    return most;
  };
  const tfjs = peak(() => tf.variableGrads(f, weights));
  const ours = peak(() => valueAndGradients(f, weights));
  expect(ours).toBeLessThan(0.75 * tfjs);
});

test('recomputed parts give the same gradients, inside tfjs too, and keep only their input', () => {
  const [a, b] = [0, 1].map(() => tf.variable(tf.randomNormal([6, 6]))) as [tf.Variable, tf.Variable];
  const input = tf.randomNormal([6, 6]) as tf.Tensor2D;
  const part = (x: tf.Tensor2D) => swiGlu(tf.matMul(x, b) as tf.Tensor2D, x);
  const loss = (again: boolean) => () => {
    const x = tf.matMul(input, a) as tf.Tensor2D;
    return tf.sum(tf.square(again ? recomputed(part, x, [b]) : part(x))) as tf.Scalar;
  };
  const plain = valueAndGradients(loss(false), [a, b]);
  const saving = valueAndGradients(loss(true), [a, b]);
  const inTfjs = tf.variableGrads(loss(true), [a, b]);
  expect(saving.value.dataSync()).toEqual(plain.value.dataSync());
  [a, b].forEach((variable, i) => {
    expect(saving.gradients[i]!.dataSync()).toEqual(plain.gradients[i]!.dataSync());
    expect(inTfjs.grads[variable.name]!.dataSync()).toEqual(plain.gradients[i]!.dataSync());
  });
  const before = tf.memory().numTensors;
  const once = valueAndGradients(loss(true), [a, b]);
  tf.dispose([once.value, ...once.gradients.map((one) => one!)]);
  expect(tf.memory().numTensors).toBe(before);
});

test('adds to sums that are given up, and to no other holder of them', () => {
  const [a, b, unused] = [0, 1, 2].map(() => tf.variable(tf.randomNormal([4, 5]))) as [
    tf.Variable,
    tf.Variable,
    tf.Variable,
  ];
  const input = tf.randomNormal([3, 5]) as tf.Tensor2D;
  // One weight that is used once, one that is used twice in one op and once more in another.
  const f = () => {
    const [p, q, r] = linears(
      input,
      [a, b, b].map((one: tf.Tensor) => one as tf.Tensor2D),
    );
    return tf.sum(tf.mul(tf.mul(p!, q!), tf.add(r!, tf.mul(b, b).sum()))) as tf.Scalar;
  };
  const variables = [a, b, unused];
  const { gradients: alone } = valueAndGradients(f, variables);
  const sums = variables.map(() => tf.randomNormal([4, 5]));
  const values = sums.map((sum) => sum.dataSync().slice());
  const held = sums[0]!.clone();
  const before = tf.memory().numTensors;
  const { value, gradients } = valueAndGradients(f, variables, sums);
  value.dispose();
  // The sums are gone, their successors are there.
  expect(tf.memory().numTensors).toBe(before);
  gradients.forEach((gradient, i) => {
    const added = alone[i]?.dataSync() ?? new Float32Array(20);
    const wanted = values[i]!.map((sum, at) => sum + added[at]!);
    // The random sums differ in size, and float32 rounds in proportion.
    for (const [at, one] of gradient!.dataSync().entries()) {
      expect(Math.abs(one - wanted[at]!)).toBeLessThan(1e-4 + 1e-6 * Math.abs(wanted[at]!));
    }
  });
  expect(held.dataSync()).toEqual(values[0]);
});
