// Softmax attention backward: recomputes the weights from the saved log-sum-exp (lse), block by block.
#include "key_sums.h"
#include "softmax_block.h"

namespace {

struct GradInputs {
  const float *q, *k, *v, *output, *logSumExp, *dOutput;
};

// logits become weights; dWeights become the logits' gradients, w·(dw − delta) with delta = Σ w·dw = output·dOutput of the
// row. `lse` is in base 2.
void logit_gradients(KeyRange keys, int64_t width, const float* lse, const float* delta, float* logits,
                     float* dWeights) {
  for (int64_t c = 0; c < keys.count; c++) {
    for (int64_t lane = 0; lane < width; lane += kLanes) {
      const int64_t at = c * width + lane;
      const Floats weight = exp2_or_zero(load(logits + at) - load(lse + lane));
      store(logits + at, weight);
      store(dWeights + at, weight * (load(dWeights + at) - load(delta + lane)));
    }
  }
  for (int64_t i = keys.count * width; i < keys.padded() * width; i++) logits[i] = dWeights[i] = 0;
}

// Adds each key's gradients over the block's queries.
void sum_keys(KeyRange keys, int64_t width, const float* gradients, float* sums) {
  for (int64_t c = 0; c < keys.count; c++) {
    Floats sum{};
    for (int64_t lane = 0; lane < width; lane += kLanes) sum += load(gradients + c * width + lane);
    sums[c] += sum_of(sum);
  }
}

// The gradients of one block of queries in one head: its rows of dq, and its share of the run's sums.
void backward(const Pack& pack, const SoftmaxShape& shape, float scale, const GradInputs& in, const QueryBlock& block,
              int64_t head, Run& run, FireSums* fireSums, float* dq) {
  const int64_t heads = pack.heads, headDim = pack.headDim, dim = pack.padded_dim(), width = block.width();
  const int64_t rowAt = (block.firstRow * heads + head) * headDim, stride = heads * headDim;
  const int64_t keyStride = pack.kvHeads * headDim, seen = block.last_position() + 1;
  Buffer queries(headDim * width), queryRows(width * dim), dOutputs(headDim * width), dOutputRows(width * dim);
  Buffer keys(kBlock * dim), values(kBlock * dim), logits(kBlock * width), dWeights(kBlock * width);
  Buffer dQueries(width * dim), lse(width), delta(width), scratch(fireSums ? 2 * kBlock * width : 0);
  copy_transposed(in.q + rowAt, stride, block.rows, headDim, shape.logitScale, queries, width);
  copy_transposed(in.dOutput + rowAt, stride, block.rows, headDim, 1.0f, dOutputs, width);
  copy_rows(in.q + rowAt, stride, block.rows, headDim, scale, queryRows, width, dim);
  copy_rows(in.dOutput + rowAt, stride, block.rows, headDim, 1.0f, dOutputRows, width, dim);
  std::fill(dQueries + 0, dQueries + width * dim, 0.0f);
  for (int64_t r = 0; r < width; r++) {
    // A lane beyond the last row: its weights are 0.
    lse[r] = -kMaskedLogit;
    delta[r] = 0;
    if (r >= block.rows) continue;
    lse[r] = in.logSumExp[(block.firstRow + r) * heads + head] * kLog2E;
    for (int64_t i = 0; i < headDim; i++) delta[r] += in.dOutput[rowAt + r * stride + i] * in.output[rowAt + r * stride + i];
  }
  for (int64_t b = shape.first_key_block(block); b < shape.end_key_block(block); b++) {
    const KeyRange range = key_range(b, seen);
    const int64_t at = ((block.firstKey + range.begin) * pack.kvHeads + run.kvHead) * headDim;
    const int64_t sumAt = (range.begin - run.firstKey) * dim;
    copy_rows(in.k + at, keyStride, range.count, headDim, 1.0f, keys, range.padded(), dim);
    copy_rows(in.v + at, keyStride, range.count, headDim, 1.0f, values, range.padded(), dim);
    small_matmul<false>(range.padded(), width, headDim, keys, dim, queries, width, logits, width, false);
    bias_and_mask(block, shape, range, head, logits);
    small_matmul<false>(range.padded(), width, headDim, values, dim, dOutputs, width, dWeights, width, false);
    logit_gradients(range, width, lse, delta, logits, dWeights);
    if (run.dBias) sum_keys(range, width, dWeights, *run.dBias + (range.begin - run.firstKey));
    if (fireSums) fire_gradients(*shape.fire, block, range, head, dWeights, scratch, *fireSums);
    small_matmul<true>(width, dim, range.count, dWeights, width, keys, dim, dQueries, dim, true);
    small_matmul<false>(range.padded(), dim, block.rows, dWeights, width, queryRows, dim, *run.dk + sumAt, dim, true);
    small_matmul<false>(range.padded(), dim, block.rows, logits, width, dOutputRows, dim, *run.dv + sumAt, dim, true);
  }
  for (int64_t r = 0; r < block.rows; r++) {
    for (int64_t i = 0; i < headDim; i++) dq[rowAt + r * stride + i] = dQueries[r * dim + i] * scale;
  }
}

void write_fire(const FireInputs& in, int64_t heads, const FireSums& sums, float* const (&to)[6]) {
  const auto sign = [](float x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : 0.0; };
  std::copy(sums.w1.begin(), sums.w1.end(), to[0]);
  std::copy(sums.b1.begin(), sums.b1.end(), to[1]);
  std::copy(sums.w2.begin(), sums.w2.begin() + heads * in.width, to[2]);
  std::copy(sums.b2.begin(), sums.b2.end(), to[3]);
  *to[4] = static_cast<float>(sums.c * sign(*in.c));
  *to[5] = static_cast<float>(sums.threshold * sign(*in.threshold) * std::fabs(in.initialThreshold));
}

}  // namespace

// dFire* are written where there is a FIRE bias, dKeyBias [M, kvHeads] where keys have one. dk, dv and dKeyBias must hold zeros.
extern "C" void sb_softmax_grad(int64_t documents, const int32_t* cuSeqlens, const int32_t* cuSeqlensK, int64_t heads,
                                int64_t kvHeads, int64_t headDim, float scale, int64_t window, const float* slopes,
                                int64_t fireWidth, float fireInitialThreshold, const float* fireW1,
                                const float* fireB1, const float* fireW2, const float* fireB2, const float* fireC,
                                const float* fireThreshold, const float* keyBias, const float* q, const float* k, const float* v,
                                const float* output, const float* logSumExp, const float* dOutput, float* dq,
                                float* dk, float* dv, float* dFireW1, float* dFireB1, float* dFireW2, float* dFireB2,
                                float* dFireC, float* dFireThreshold, float* dKeyBias) {
  const Pack pack{documents, cuSeqlens, cuSeqlensK, heads, kvHeads, headDim};
  const FireInputs fireInputs{fireWidth, fireInitialThreshold, fireW1, fireB1, fireW2, fireB2, fireC, fireThreshold};
  std::unique_ptr<FireTables> fire;
  if (fireW1) fire.reset(new FireTables(fireInputs, longest_document(pack), true));
  const std::vector<float> biases = by_head(keyBias, pack);
  const SoftmaxShape shape{scale * kLog2E,         window, slopes, fire.get(), keyBias ? biases.data() : nullptr,
                           cuSeqlensK[documents], pack.group()};
  const GradInputs in{q, k, v, output, logSumExp, dOutput};
  const std::vector<QueryBlock> blocks = query_blocks(pack);
  const int64_t group = pack.group();
  std::vector<Run> runs = key_sum_runs(pack, blocks, window > 0);
  std::vector<FireSums> fireSums(fire ? runs.size() : 0, FireSums(fireWidth, heads));

  parallel_for(static_cast<int64_t>(runs.size()), [&](int64_t item) {
    const FlushTinyToZero flush;
    const int64_t i = static_cast<int64_t>(runs.size()) - 1 - item;
    Run& run = runs[i];
    const QueryBlock &first = blocks[run.firstBlock], &last = blocks[run.endBlock - 1];
    run.open(shape.first_key_block(first) * kBlock, shape.end_key_block(last) * kBlock, pack.padded_dim(), keyBias != nullptr);
    for (int64_t b = run.firstBlock; b < run.endBlock; b++) {
      for (int64_t head = run.kvHead * group; head < (run.kvHead + 1) * group; head++)
        backward(pack, shape, scale, in, blocks[b], head, run, fire ? &fireSums[i] : nullptr, dq);
    }
  });
  add_runs(pack, blocks, runs, dk, dv, dKeyBias);
  if (!fire) return;
  FireSums total(fireWidth, heads);
  for (const FireSums& one : fireSums) total.add(one);
  write_fire(fireInputs, heads, total, {dFireW1, dFireB1, dFireW2, dFireB2, dFireC, dFireThreshold});
}
