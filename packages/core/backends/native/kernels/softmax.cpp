// Softmax attention forward: blocks of queries walk over blocks of keys with a running maximum and sum of each row, as in
// FlashAttention (https://arxiv.org/abs/2205.14135), whose names are used here.
#include <memory>

#include "parallel.h"
#include "softmax_block.h"

namespace {

// One step of the online softmax: logits [keys, width] become weights relative to the new row maximum. `rescale` [width]
// is the factor for what was summed under the old one. Returns whether any row has to be rescaled.
bool online_softmax(KeyRange keys, int64_t width, float* logits, float* rowMax, float* rowSum, float* rescale) {
  bool rescaled = false;
  for (int64_t lane = 0; lane < width; lane += kLanes) {
    const Floats oldMax = load(rowMax + lane);
    Floats newMax = oldMax;
    for (int64_t c = 0; c < keys.count; c++) newMax = maximum(load(logits + c * width + lane), newMax);
    const Floats subtracted = at_least(newMax, kLowestRowMax);
    const Floats factor = exp2_or_zero(oldMax - subtracted);
    Floats sum = load(rowSum + lane) * factor;
    for (int64_t c = 0; c < keys.count; c++) {
      float* at = logits + c * width + lane;
      const Floats weight = exp2_or_zero(load(at) - subtracted);
      sum += weight;
      store(at, weight);
    }
    store(rowMax + lane, newMax);
    store(rowSum + lane, sum);
    store(rescale + lane, factor);
    for (int i = 0; i < kLanes; i++) rescaled = rescaled || factor[i] != 1.0f;
  }
  for (int64_t i = keys.count * width; i < keys.padded() * width; i++) logits[i] = 0;
  return rescaled;
}

}  // namespace

extern "C" void sb_softmax(int64_t documents, const int32_t* cuSeqlens, const int32_t* cuSeqlensK, int64_t heads,
                           int64_t kvHeads, int64_t headDim, float scale, int64_t window, const float* slopes,
                           int64_t fireWidth, float fireInitialThreshold, const float* fireW1, const float* fireB1,
                           const float* fireW2, const float* fireB2, const float* fireC, const float* fireThreshold,
                           const float* keyBias, const float* q, const float* k, const float* v, float* output, float* logSumExp) {
  const Pack pack{documents, cuSeqlens, cuSeqlensK, heads, kvHeads, headDim};
  const FireInputs fireInputs{fireWidth, fireInitialThreshold, fireW1, fireB1, fireW2, fireB2, fireC, fireThreshold};
  std::unique_ptr<FireTables> fire;
  if (fireW1) fire.reset(new FireTables(fireInputs, longest_document(pack), false));
  const std::vector<float> biases = by_head(keyBias, pack);
  const SoftmaxShape shape{scale * kLog2E,         window, slopes, fire.get(), keyBias ? biases.data() : nullptr,
                           cuSeqlensK[documents], pack.group()};
  const std::vector<QueryBlock> blocks = query_blocks(pack);
  const int64_t dim = pack.padded_dim(), group = pack.group(), stride = kvHeads * headDim;

  parallel_for(static_cast<int64_t>(blocks.size()) * heads, [&](int64_t item) {
    const FlushTinyToZero flush;
    const QueryBlock& block = blocks[blocks.size() - 1 - item / heads];
    const int64_t head = item % heads, kvHead = head / group, width = block.width();
    const int64_t seen = block.last_position() + 1;
    Buffer queries(headDim * width), keys(kBlock * dim), values(kBlock * dim), logits(kBlock * width);
    Buffer acc(width * dim), rowMax(width), rowSum(width), rescale(width);
    copy_transposed(q + (block.firstRow * heads + head) * headDim, heads * headDim, block.rows, headDim,
                    shape.logitScale, queries, width);
    std::fill(acc + 0, acc + width * dim, 0.0f);
    std::fill(rowSum + 0, rowSum + width, 0.0f);
    std::fill(rowMax + 0, rowMax + width, kMaskedLogit);
    for (int64_t b = shape.first_key_block(block); b < shape.end_key_block(block); b++) {
      const KeyRange range = key_range(b, seen);
      const int64_t at = ((block.firstKey + range.begin) * kvHeads + kvHead) * headDim;
      copy_rows(k + at, stride, range.count, headDim, 1.0f, keys, range.padded(), dim);
      copy_rows(v + at, stride, range.count, headDim, 1.0f, values, range.padded(), dim);
      small_matmul<false>(range.padded(), width, headDim, keys, dim, queries, width, logits, width, false);
      bias_and_mask(block, shape, range, head, logits);
      if (online_softmax(range, width, logits, rowMax, rowSum, rescale)) {
        for (int64_t r = 0; r < width; r++) {
          for (int64_t i = 0; i < dim; i += kLanes) store(acc + r * dim + i, load(acc + r * dim + i) * rescale[r]);
        }
      }
      small_matmul<true>(width, dim, range.count, logits, width, values, dim, acc, dim, true);
    }
    for (int64_t r = 0; r < block.rows; r++) {
      const int64_t row = (block.firstRow + r) * heads + head;
      const float inverse = 1.0f / rowSum[r];
      for (int64_t i = 0; i < headDim; i++) output[row * headDim + i] = acc[r * dim + i] * inverse;
      logSumExp[row] = static_cast<float>((rowMax[r] + std::log2(static_cast<double>(rowSum[r]))) / kLog2E);
    }
  });
}
