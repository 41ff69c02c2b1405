// Softmax attention forward: blocks of queries over blocks of keys with a running maximum and sum
// (https://arxiv.org/abs/2205.14135).
#include <memory>

#include "parallel.h"
#include "softmax_block.h"

namespace {

// Logits [keys, width] become weights under the new peak; `shrink` [width] is what earlier weights fade by. Returns
// whether any does.
bool weigh(KeyRange keys, int64_t width, float* logits, float* peak, float* total, float* shrink) {
  bool fades = false;
  for (int64_t lane = 0; lane < width; lane += kLanes) {
    const Floats before = load(peak + lane);
    Floats now = before;
    for (int64_t c = 0; c < keys.count; c++) now = maximum(load(logits + c * width + lane), now);
    const Floats subtracted = at_least(now, kLowestPeak);
    const Floats fade = exp2_or_zero(before - subtracted);
    Floats sum = load(total + lane) * fade;
    for (int64_t c = 0; c < keys.count; c++) {
      float* at = logits + c * width + lane;
      const Floats weight = exp2_or_zero(load(at) - subtracted);
      sum += weight;
      store(at, weight);
    }
    store(peak + lane, now);
    store(total + lane, sum);
    store(shrink + lane, fade);
    for (int i = 0; i < kLanes; i++) fades = fades || fade[i] != 1.0f;
  }
  for (int64_t i = keys.count * width; i < keys.padded() * width; i++) logits[i] = 0;
  return fades;
}

}  // namespace

extern "C" void sb_softmax(int64_t documents, const int32_t* cuSeqlens, const int32_t* cuSeqlensK, int64_t heads,
                           int64_t kvHeads, int64_t headDim, float scale, int64_t window, const float* slopes,
                           int64_t fireWidth, float fireInitialThreshold, const float* fireW1, const float* fireB1,
                           const float* fireW2, const float* fireB2, const float* fireC, const float* fireThreshold,
                           const float* q, const float* k, const float* v, float* output, float* logSumExp) {
  const Pack pack{documents, cuSeqlens, cuSeqlensK, heads, kvHeads, headDim};
  const FireInputs fireInputs{fireWidth, fireInitialThreshold, fireW1, fireB1, fireW2, fireB2, fireC, fireThreshold};
  std::unique_ptr<FireTables> fire;
  if (fireW1) fire.reset(new FireTables(fireInputs, longest_document(pack), false));
  const SoftmaxShape shape{scale * kLog2E, window, slopes, fire.get()};
  const std::vector<QueryBlock> blocks = query_blocks(pack);
  const int64_t dim = pack.padded_dim(), group = pack.group(), stride = kvHeads * headDim;

  parallel_for(static_cast<int64_t>(blocks.size()) * heads, [&](int64_t item) {
    const FlushTinyToZero flush;
    const QueryBlock& block = blocks[blocks.size() - 1 - item / heads];
    const int64_t head = item % heads, kvHead = head / group, width = block.width();
    const int64_t seen = block.last_position() + 1;
    Buffer queries(headDim * width), keys(kBlock * dim), values(kBlock * dim), logits(kBlock * width);
    Buffer sums(width * dim), peak(width), total(width), shrink(width);
    copy_transposed(q + (block.firstRow * heads + head) * headDim, heads * headDim, block.rows, headDim,
                    shape.logitScale, queries, width);
    std::fill(sums + 0, sums + width * dim, 0.0f);
    std::fill(total + 0, total + width, 0.0f);
    std::fill(peak + 0, peak + width, kHidden);
    for (int64_t b = shape.first_key_block(block); b < shape.end_key_block(block); b++) {
      const KeyRange range = key_range(b, seen);
      const int64_t at = ((block.firstKey + range.begin) * kvHeads + kvHead) * headDim;
      copy_rows(k + at, stride, range.count, headDim, 1.0f, keys, range.padded(), dim);
      copy_rows(v + at, stride, range.count, headDim, 1.0f, values, range.padded(), dim);
      small_product<false>(range.padded(), width, headDim, keys, dim, queries, width, logits, width, false);
      finish_logits(block, shape, range, head, logits);
      if (weigh(range, width, logits, peak, total, shrink)) {
        for (int64_t r = 0; r < width; r++) {
          for (int64_t i = 0; i < dim; i += kLanes) store(sums + r * dim + i, load(sums + r * dim + i) * shrink[r]);
        }
      }
      small_product<true>(width, dim, range.count, logits, width, values, dim, sums, dim, true);
    }
    for (int64_t r = 0; r < block.rows; r++) {
      const int64_t row = (block.firstRow + r) * heads + head;
      const float inverse = 1.0f / total[r];
      for (int64_t i = 0; i < headDim; i++) output[row * headDim + i] = sums[r * dim + i] * inverse;
      logSumExp[row] = static_cast<float>((peak[r] + std::log2(static_cast<double>(total[r]))) / kLog2E);
    }
  });
}
