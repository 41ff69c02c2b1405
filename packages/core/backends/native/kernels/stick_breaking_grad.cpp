// Stick-breaking attention backward. A block of queries walks its keys twice: from the nearest to where its forward stopped,
// recomputing the weights, and back, with the prefix sum of weights times their gradients. That prefix is summed from the far
// end, because a total minus a suffix would cancel. https://arxiv.org/abs/2410.17980, appendix A.
#include "key_sums.h"
#include "stick_block.h"

namespace {

struct GradInputs {
  const float *q, *k, *v;
  const float* sticks;   // [N, heads] what nearer keys have left, or null
  const float* farther;  // [N, heads] the sum of weights times their gradients over what is farther
  const float* dOutput;
  const int32_t* stops;
};

// Lane by lane from the farthest key to the nearest: dLogits = w·dw − β·Σ_{keys up to here} w·dw. `dWeights` becomes
// dLogits; `prefix` [width] is the sum so far.
void logit_gradients(KeyRange keys, int64_t width, const float* weights, const float* beta, float* dWeights,
                     float* prefix) {
  for (int64_t lane = 0; lane < width; lane += kLanes) {
    Floats sum = load(prefix + lane);
    for (int64_t c = 0; c < keys.count; c++) {
      const int64_t at = c * width + lane;
      const Floats along = load(weights + at) * load(dWeights + at);
      sum += along;
      store(dWeights + at, along - load(beta + at) * sum);
    }
    store(prefix + lane, sum);
  }
  for (int64_t i = keys.count * width; i < keys.padded() * width; i++) dWeights[i] = 0;
}

// The gradients of one block of queries in one head: its rows of dq, its share of the run's sums and, where it is asked for, the sum
// in which these keys are too.
void backward(const Pack& pack, const StickShape& shape, float scale, const GradInputs& in, const QueryBlock& block,
              int64_t head, Run& run, float* dq, float* nearer) {
  const int64_t heads = pack.heads, headDim = pack.headDim, dim = pack.padded_dim(), width = block.width();
  const int64_t seen = shape.seen_last(block);
  const int64_t end = (seen + kBlock - 1) / kBlock, stop = in.stops[block.index * heads + head];
  const int64_t rowAt = (block.firstRow * heads + head) * headDim, stride = heads * headDim;
  if (end <= stop) {
    for (int64_t r = 0; r < block.rows; r++) {
      const int64_t row = (block.firstRow + r) * heads + head;
      std::fill_n(dq + rowAt + r * stride, headDim, 0.0f);
      if (nearer) nearer[row] = in.farther[row];
    }
    return;
  }
  // Weights and β of all keys from the stop on: memory linear in the document, read again on the way back.
  Buffer weights((end - stop) * kBlock * width), beta((end - stop) * kBlock * width);
  Buffer columns(headDim * width), rows(width * dim), keys(kBlock * dim), dWeights(kBlock * width), lanes(width);
  const auto keyRow = [&](int64_t key) { return ((block.firstKey + key) * pack.kvHeads + run.kvHead) * headDim; };
  const int64_t keyStride = pack.kvHeads * headDim;

  copy_transposed(in.q + rowAt, stride, block.rows, headDim, shape.logitScale, columns, width);
  copy_rows(in.dOutput + rowAt, stride, block.rows, headDim, 1.0f, rows, width, dim);
  begin_sticks(block, in.sticks, heads, head, lanes);
  for (int64_t b = end - 1; b >= stop; b--) {
    const KeyRange range = key_range(b, seen);
    const int64_t strip = (b - stop) * kBlock * width;
    copy_rows(in.k + keyRow(range.begin), keyStride, range.count, headDim, 1.0f, keys, range.padded(), dim);
    small_matmul<false>(range.padded(), width, headDim, keys, dim, columns, width, weights + strip, width, false);
    stick_breaking_weights<true>(block, shape, range, width, weights + strip, beta + strip, lanes);
    small_matmul<false>(range.padded(), dim, block.rows, weights + strip, width, rows, dim,
                         *run.dv + (range.begin - run.firstKey) * dim, dim, true);
  }

  copy_transposed(in.dOutput + rowAt, stride, block.rows, headDim, 1.0f, columns, width);
  copy_rows(in.q + rowAt, stride, block.rows, headDim, scale, rows, width, dim);
  Buffer values(kBlock * dim), dQueries(width * dim);
  std::fill(dQueries + 0, dQueries + width * dim, 0.0f);
  for (int64_t r = 0; r < width; r++) {
    const int64_t row = (block.firstRow + r) * heads + head;
    lanes[r] = r < block.rows ? in.farther[row] : 0.0f;
  }
  for (int64_t b = stop; b < end; b++) {
    const KeyRange range = key_range(b, seen);
    const int64_t strip = (b - stop) * kBlock * width;
    copy_rows(in.k + keyRow(range.begin), keyStride, range.count, headDim, scale, keys, range.padded(), dim);
    copy_rows(in.v + keyRow(range.begin), keyStride, range.count, headDim, 1.0f, values, range.padded(), dim);
    small_matmul<false>(range.padded(), width, headDim, values, dim, columns, width, dWeights, width, false);
    logit_gradients(range, width, weights + strip, beta + strip, dWeights, lanes);
    small_matmul<true>(width, dim, range.count, dWeights, width, keys, dim, dQueries, dim, true);
    small_matmul<false>(range.padded(), dim, block.rows, dWeights, width, rows, dim,
                         *run.dk + (range.begin - run.firstKey) * dim, dim, true);
  }
  for (int64_t r = 0; r < block.rows; r++) {
    std::copy(dQueries + r * dim, dQueries + r * dim + headDim, dq + rowAt + r * stride);
    if (nearer) nearer[(block.firstRow + r) * heads + head] = lanes[r];
  }
}

}  // namespace

// sticks: as in the forward. farther [N, heads]: of each row the sum of weights times their gradients over all that is farther
// than these keys. nearer [N, heads]: that with these keys among it, or null.
extern "C" void sb_stick_breaking_grad(int64_t documents, const int32_t* cuSeqlens, const int32_t* cuSeqlensK,
                                       int64_t heads, int64_t kvHeads, int64_t headDim, float scale,
                                       int32_t attendCurrent, const float* q, const float* k, const float* v,
                                       const float* sticks, const float* farther, const int32_t* stops,
                                       const float* dOutput, float* dq, float* dk, float* dv, float* nearer) {
  const Pack pack{documents, cuSeqlens, cuSeqlensK, heads, kvHeads, headDim, sticks != nullptr};
  const StickShape shape{scale * kLog2E, attendCurrent != 0};
  const GradInputs in{q, k, v, sticks, farther, dOutput, stops};
  const std::vector<QueryBlock> blocks = query_blocks(pack);
  const int64_t group = pack.group();
  std::vector<Run> runs = key_sum_runs(pack, blocks, false);

  parallel_for(static_cast<int64_t>(runs.size()), [&](int64_t item) {
    const FlushTinyToZero flush;
    Run& run = runs[runs.size() - 1 - item];
    int64_t first = INT64_MAX;
    for (int64_t b = run.firstBlock; b < run.endBlock; b++) {
      for (int64_t head = run.kvHead * group; head < (run.kvHead + 1) * group; head++)
        first = std::min<int64_t>(first, stops[b * heads + head]);
    }
    const int64_t last = round_up(shape.seen_last(blocks[run.endBlock - 1]), kBlock);
    run.open(std::min(first * kBlock, last), last, pack.padded_dim());
    for (int64_t b = run.firstBlock; b < run.endBlock; b++) {
      for (int64_t head = run.kvHead * group; head < (run.kvHead + 1) * group; head++)
        backward(pack, shape, scale, in, blocks[b], head, run, dq, nearer);
    }
  });
  add_runs(pack, blocks, runs, dk, dv);
}
