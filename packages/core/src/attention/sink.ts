/**
 * A learned attention sink (as in gpt-oss; the idea is that of https://arxiv.org/abs/2309.17453): one more key for each
 * head, with a learned logit s and a value of zero. With L the log-sum-exp of a row without it, the others keep the share
 * σ(L − s), so the output is σ(L − s) times what it is without, and the row's log-sum-exp L + softplus(s − L).
 *
 * Given those two in place of a row's own, the backward of plain softmax is the backward with a sink: it computes the
 * weights as exp(z − log-sum-exp) and their mean gradient as dOutput · output, in which a value of zero has no part. So the
 * fused kernels serve as they are.
 */
import { type Tensor, type Tensor2D, type Tensor3D, tidy } from '@tensorflow/tfjs-core';

/**
 * @param output [N, H, D] without a sink
 * @param logSumExp [N, H]
 * @param sink [H]
 */
export function withSink(output: Tensor, logSumExp: Tensor, sink: Tensor): { output: Tensor3D; logSumExp: Tensor2D } {
  const kept = logSumExp.sub(sink).sigmoid();
  const apart = logSumExp.sub(sink).abs().neg().exp().log1p(); // tfjs's softplus approximates beyond thresholds
  return {
    output: output.mul(kept.expandDims(2)),
    logSumExp: logSumExp.maximum(sink).add(apart) as Tensor2D,
  };
}

/**
 * The gradient of the sink's logit, [H]: a weight times how far its value's gradient, 0, lies below the row's mean.
 *
 * @param output [N, H, D] with the sink
 * @param logSumExp [N, H] with the sink
 */
export function sinkGradient(output: Tensor, logSumExp: Tensor, dOutput: Tensor, sink: Tensor): Tensor {
  return tidy(() => {
    const taken = sink.sub(logSumExp).exp();
    return taken.mul(output.mul(dOutput).sum(2)).sum(0).neg();
  });
}
