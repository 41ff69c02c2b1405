// Stick-breaking attention forward. A block of queries walks its keys from the nearest block to the farthest and stops
// when all of its sticks are exhausted.
#include <algorithm>
#include <atomic>

#include "decode.h"
#include "parallel.h"
#include "stick_block.h"

namespace {

std::atomic<bool> blockSkipping{true};

// Half of the last bit of a float32 of magnitude one.
constexpr float kHalfLastBit = 1.0f / (1 << 25);
// A block with a remainder above this is not looked at closely.
constexpr float kMayBeExhausted = 1.0f / (1 << 10);

// For every key block of every document, the largest |v| in it and in all blocks before it: [kvHeads, blocks].
class LargestValues {
 public:
  LargestValues(const Pack& pack, const float* v) : offsets_(pack.documents + 1) {
    for (int64_t s = 0; s < pack.documents; s++)
      offsets_[s + 1] = offsets_[s] + (pack.cuSeqlensK[s + 1] - pack.cuSeqlensK[s] + kBlock - 1) / kBlock;
    blocks_ = offsets_.back();
    largest_.resize(pack.kvHeads * blocks_);
    parallel_for(pack.documents * pack.kvHeads, [&](int64_t item) {
      const int64_t document = item / pack.kvHeads, head = item % pack.kvHeads;
      float most = 0;
      for (int64_t b = offsets_[document]; b < offsets_[document + 1]; b++) {
        const int64_t begin = pack.cuSeqlensK[document] + (b - offsets_[document]) * kBlock;
        const int64_t end = std::min<int64_t>(begin + kBlock, pack.cuSeqlensK[document + 1]);
        for (int64_t key = begin; key < end; key++) {
          const float* row = v + (key * pack.kvHeads + head) * pack.headDim;
#pragma omp simd reduction(max : most)
          for (int64_t i = 0; i < pack.headDim; i++) most = std::max(most, std::fabs(row[i]));
        }
        largest_[head * blocks_ + b] = most;
      }
    });
  }

  // Over the keys before this block.
  float before(int64_t document, int64_t head, int64_t keyBlock) const {
    return keyBlock == 0 ? 0.0f : largest_[head * blocks_ + offsets_[document] + keyBlock - 1];
  }

 private:
  std::vector<int64_t> offsets_;
  int64_t blocks_;
  std::vector<float> largest_;
};

// Whether no key further back can change a row's output: the remainder times the largest value back there is at most half
// of the last bit of the output's largest component so far. A row with a NaN counts as exhausted.
bool exhausted(const QueryBlock& block, const float* remainder, const float* output, int64_t dim, float largestBefore) {
  for (int64_t r = 0; r < block.rows; r++) {
    if (remainder[r] > kMayBeExhausted) return false;
  }
  for (int64_t r = 0; r < block.rows; r++) {
    Floats most{};
    for (int64_t i = 0; i < dim; i += kLanes) most = maximum(most, absolute(load(output + r * dim + i)));
    if (remainder[r] * largestBefore > largest(most) * kHalfLastBit) return false;
  }
  return true;
}

}  // namespace

bool block_skipping() { return blockSkipping; }

extern "C" void sb_set_block_skipping(int32_t on) { blockSkipping = on != 0; }

// How many blocks of queries a pack has.
extern "C" void sb_query_blocks(int64_t documents, const int32_t* cuSeqlens, int32_t* blocks) {
  *blocks = 0;
  for (int64_t s = 0; s < documents; s++)
    *blocks += static_cast<int32_t>((cuSeqlens[s + 1] - cuSeqlens[s] + kBlock - 1) / kBlock);
}

// stops [blocks, heads]: the farthest key block that a block of queries went to. sticks [N, heads]: what keys nearer than all of
// these have left; or null, where the queries are the last of their keys.
extern "C" void sb_stick_breaking(int64_t documents, const int32_t* cuSeqlens, const int32_t* cuSeqlensK,
                                  int64_t heads, int64_t kvHeads, int64_t headDim, float scale, int32_t attendCurrent,
                                  const float* q, const float* k, const float* v, const float* sticks, float* output,
                                  float* remainder, int32_t* stops) {
  const Pack pack{documents, cuSeqlens, cuSeqlensK, heads, kvHeads, headDim, sticks != nullptr};
  const StickShape shape{scale * kLog2E, attendCurrent != 0};
  const std::vector<QueryBlock> blocks = query_blocks(pack);
  const int64_t dim = pack.padded_dim(), group = pack.group();
  const bool skip = blockSkipping;
  const LargestValues largestValues(pack, v);

  parallel_for(static_cast<int64_t>(blocks.size()) * heads, [&](int64_t item) {
    const FlushTinyToZero flush;
    // The last blocks of a document have most to do: they come first.
    const QueryBlock& block = blocks[blocks.size() - 1 - item / heads];
    const int64_t head = item % heads, kvHead = head / group, width = block.width();
    const int64_t seen = shape.seen_last(block);
    Buffer queries(headDim * width), keys(kBlock * dim), values(kBlock * dim), logits(kBlock * width);
    Buffer acc(width * dim), rowRemainder(width);
    copy_transposed(q + (block.firstRow * heads + head) * headDim, heads * headDim, block.rows, headDim,
                    shape.logitScale, queries, width);
    std::fill(acc + 0, acc + width * dim, 0.0f);
    begin_sticks(block, sticks, heads, head, rowRemainder);

    int64_t b = (seen + kBlock - 1) / kBlock;
    while (b > 0) {
      b--;
      const KeyRange range = key_range(b, seen);
      const int64_t at = ((block.firstKey + range.begin) * kvHeads + kvHead) * headDim;
      copy_rows(k + at, kvHeads * headDim, range.count, headDim, 1.0f, keys, range.padded(), dim);
      copy_rows(v + at, kvHeads * headDim, range.count, headDim, 1.0f, values, range.padded(), dim);
      small_matmul<false>(range.padded(), width, headDim, keys, dim, queries, width, logits, width, false);
      stick_breaking_weights<false>(block, shape, range, width, logits, nullptr, rowRemainder);
      small_matmul<true>(width, dim, range.count, logits, width, values, dim, acc, dim, true);
      if (skip && exhausted(block, rowRemainder, acc, dim, largestValues.before(block.document, kvHead, b))) break;
    }
    stops[block.index * heads + head] = static_cast<int32_t>(b);
    for (int64_t r = 0; r < block.rows; r++) {
      const int64_t row = (block.firstRow + r) * heads + head;
      std::copy(acc + r * dim, acc + r * dim + headDim, output + row * headDim);
      remainder[row] = rowRemainder[r];
    }
  });
}
