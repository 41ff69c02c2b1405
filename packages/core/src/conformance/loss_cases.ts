/** The conformance suite's cases of what stands at both ends of a model: embedding, output head and loss. */
import { add, clone, type Tensor2D, tensor1d, tensor2d } from '@tensorflow/tfjs-core';
import { embedding } from '../ops/embedding.js';
import { linearCrossEntropy, linearTargetScores } from '../ops/linear_cross_entropy.js';
import { runKernel } from '../run_kernel.js';
import { type ConformanceCase, gradient, output, withGradients } from './case.js';
import { embedding64, linearCrossEntropy64 } from './float64/layers.js';

export function lossCases(): ConformanceCase[] {
  return [
    embeddingCase(40, 13, 70),
    embeddingCase(1, 1000, 3),
    tiedCase(50, 30, 24),
    tiedCase(3, 400, 40, 'held elsewhere'),
    crossEntropyCase(1, 3, 2, 1),
    crossEntropyCase(53, 20, 131, 0.7),
    crossEntropyCase(130, 64, 1000, 1),
    crossEntropyCase(20, 4, 70_000, 1),
    crossEntropyCase(31, 32, 100, 1, 40),
    targetScoresCase(97, 24, 131, 0.7),
    targetScoresCase(20, 4, 70_000, 1),
  ];
}

/** Gradients of one weight of embedding and head, added to a sum so far. */
function tiedCase(N: number, V: number, C: number, held?: 'held elsewhere'): ConformanceCase {
  return {
    name: `gradient [${V}, ${C}] of an embedding that is the head's weight, ${N} tokens${held ? ', its sum held elsewhere' : ''}`,
    prepare(random, input) {
      const [tokens, targets] = [0, 1].map(() => Int32Array.from({ length: N }, () => random.integer(V)));
      const [hidden, weight, dy] = [N, V, N].map((rows) => input(random.normals(rows * C)));
      const [dLoss, sum] = [random.normals(N), input(random.normals(V * C))];
      const ofRows = embedding64(tokens!, weight!, C, dy!).dWeight;
      const ofHead = linearCrossEntropy64(
        hidden!,
        weight!,
        targets!,
        { width: C, logitScale: 1, ignoreIndex: -1 },
        dLoss,
      );
      const total = ofHead.dWeight.map((value, i) => value + ofRows[i]! + sum[i]!);
      return {
        expected: [
          gradient('dHidden', ofHead.dHidden, C),
          gradient('sum', total, C),
          ...(held ? [gradient('elsewhere', Float64Array.from(sum), C)] : []),
        ],
        run: () => {
          const attrs = { logitScale: 1, ignoreIndex: -1 };
          const head = {
            hidden: tensor2d(hidden!, [N, C]),
            weight: tensor2d(weight!, [V, C]),
            targets: tensor1d(targets!, 'int32'),
          };
          const before = add(tensor2d(sum, [V, C]), 0);
          const elsewhere = held ? [clone(before)] : [];
          const [, logSumExp, kept] = runKernel('LinearCrossEntropy', head, { ...attrs, gradientFollows: true });
          const backward = {
            ...head,
            logSumExp,
            dLoss: tensor1d(dLoss),
            sum: before,
            ...(kept ? { saved: kept } : {}),
          };
          const [dHidden, dWeight] = runKernel('LinearCrossEntropyGrad', backward, attrs);
          const rows = { tokens: tensor1d(tokens!, 'int32'), dy: tensor2d(dy!, [N, C]), sum: dWeight };
          return [dHidden, ...runKernel('EmbeddingGrad', rows, { vocabSize: V }), ...elsewhere];
        },
      };
    },
  };
}

function embeddingCase(N: number, V: number, C: number): ConformanceCase {
  return {
    name: `embedding of ${N} tokens, [${V}, ${C}]`,
    prepare(random, input) {
      const tokens = Int32Array.from({ length: N }, () => random.integer(V));
      const [weight, dy] = [input(random.normals(V * C)), input(random.normals(N * C))];
      const wanted = embedding64(tokens, weight, C, dy);
      return {
        expected: [output('y', wanted.y, C), gradient('dWeight', wanted.dWeight, C)],
        run: () =>
          withGradients(
            (a) => [embedding(tensor1d(tokens, 'int32'), a as Tensor2D)],
            [tensor2d(weight, [V, C])],
            [tensor2d(dy, [N, C])],
          ),
      };
    },
  };
}

/** @param deviation of the logits */
function crossEntropyCase(N: number, C: number, V: number, logitScale: number, deviation = 1): ConformanceCase {
  return {
    name: `linearCrossEntropy [${N}, ${C}] to ${V}, logits of deviation ${deviation}`,
    prepare(random, input) {
      const ignoreIndex = -100;
      const hidden = input(random.normals(N * C, deviation / Math.sqrt(C)));
      const [weight, dLoss] = [input(random.normals(V * C)), input(random.normals(N))];
      const targets = Int32Array.from({ length: N }, (_, n) => (n % 7 === 4 ? ignoreIndex : random.integer(V)));
      const wanted = linearCrossEntropy64(hidden, weight, targets, { width: C, logitScale, ignoreIndex }, dLoss);
      return {
        expected: [
          output('loss', wanted.loss, 1),
          gradient('dHidden', wanted.dHidden, C),
          gradient('dWeight', wanted.dWeight, C),
        ],
        run: () =>
          withGradients(
            (a, b) => [
              linearCrossEntropy(a as Tensor2D, b as Tensor2D, tensor1d(targets, 'int32'), { logitScale, ignoreIndex }),
            ],
            [tensor2d(hidden, [N, C]), tensor2d(weight, [V, C])],
            [tensor1d(dLoss)],
          ),
        exact: ([loss]) =>
          [...targets].flatMap((target, n) =>
            target === ignoreIndex && loss![n] !== 0 ? [`the loss of ignored row ${n} is not 0`] : [],
          ),
      };
    },
  };
}

/** Every other target is the likeliest of its row. */
function targetScoresCase(N: number, C: number, V: number, logitScale: number): ConformanceCase {
  return {
    name: `linearTargetScores [${N}, ${C}] to ${V}`,
    prepare(random, input) {
      const ignoreIndex = -1;
      const [hidden, weight] = [input(random.normals(N * C)), input(random.normals(V * C))];
      const likeliest = Int32Array.from({ length: N }, (_, n) => likeliestOf(hidden, weight, C, n));
      const targets = likeliest.map((best, n) => (n % 7 === 4 ? ignoreIndex : n % 2 === 0 ? best : (best + 1) % V));
      const options = { width: C, logitScale, ignoreIndex };
      const { loss } = linearCrossEntropy64(hidden, weight, targets, options, new Float64Array(N));
      const isLikeliest = Float64Array.from(targets, (target, n) => (target === likeliest[n] ? 1 : 0));
      return {
        expected: [output('losses', loss, 1), output('likeliest', isLikeliest, 1)],
        run: () => {
          const ids = tensor1d(targets, 'int32');
          const found = linearTargetScores(tensor2d(hidden, [N, C]), tensor2d(weight, [V, C]), ids, {
            logitScale,
            ignoreIndex,
          });
          return [found.losses, found.likeliest];
        },
        exact: ([, found]) => {
          const wrong = [...isLikeliest].findIndex((value, n) => found![n] !== value);
          return wrong < 0 ? [] : [`row ${wrong} has ${found![wrong]}, not ${isLikeliest[wrong]}`];
        },
      };
    },
  };
}

/** The row of `weight` whose product with row n of `hidden` is the largest. */
function likeliestOf(hidden: ArrayLike<number>, weight: ArrayLike<number>, width: number, n: number): number {
  let [best, highest] = [-1, Number.NEGATIVE_INFINITY];
  for (let v = 0; v < weight.length / width; v++) {
    let logit = 0;
    for (let c = 0; c < width; c++) logit += hidden[n * width + c]! * weight[v * width + c]!;
    if (logit > highest) [best, highest] = [v, logit];
  }
  return best;
}
