// How the attention kernels walk packed documents: blocks of queries over blocks of keys. Within a block the logits are kept
// transposed, S^T = K·Q^T, with queries in the lanes and keys one after the other, so that a scan along the keys crosses no
// lanes.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

#include "small_matmul.h"

// Rows of a block, of queries or of keys.
constexpr int64_t kBlock = 64;

inline int64_t round_up(int64_t x, int64_t step) { return (x + step - 1) / step * step; }

// What every attention kernel needs to know of its inputs: q [N, heads, headDim], k and v [M, kvHeads, headDim], and the
// boundaries of the documents among queries and among keys.
struct Pack {
  int64_t documents;
  const int32_t* cuSeqlens;
  const int32_t* cuSeqlensK;
  int64_t heads, kvHeads, headDim;
  bool behind = false;  // queries come behind all of their document's keys, rather than as the last of them

  int64_t group() const { return heads / kvHeads; }
  int64_t padded_dim() const { return round_up(headDim, kLanes); }
  int64_t queries() const { return cuSeqlens[documents]; }
  int64_t keys() const { return cuSeqlensK[documents]; }
};

struct QueryBlock {
  int64_t index;          // among all blocks of the pack
  int64_t document;
  int64_t firstRow;       // in q
  int64_t rows;
  int64_t firstPosition;  // of the first row, among the document's keys
  int64_t firstKey;       // in k: where the document begins
  int64_t keys;           // of the document

  // The rows, rounded up to whole vectors and whole register tiles.
  int64_t width() const { return round_up(rows, kLanes > kTileRows ? kLanes : kTileRows); }
  int64_t last_position() const { return firstPosition + rows - 1; }
};

// The keys of one key block that the query block's last row sees, counted from the document's first.
struct KeyRange {
  int64_t begin, count;
  int64_t padded() const { return round_up(count, kTileRows); }
};

inline KeyRange key_range(int64_t keyBlock, int64_t seen) {
  const int64_t begin = keyBlock * kBlock;
  return {begin, seen - begin < kBlock ? seen - begin : kBlock};
}

// All blocks, document by document.
inline std::vector<QueryBlock> query_blocks(const Pack& pack) {
  std::vector<QueryBlock> blocks;
  for (int64_t s = 0; s < pack.documents; s++) {
    const int64_t begin = pack.cuSeqlens[s], length = pack.cuSeqlens[s + 1] - begin;
    const int64_t firstKey = pack.cuSeqlensK[s], keys = pack.cuSeqlensK[s + 1] - firstKey;
    for (int64_t row = 0; row < length; row += kBlock) {
      const int64_t rows = length - row < kBlock ? length - row : kBlock;
      const int64_t position = pack.behind ? keys + row : keys - length + row;
      blocks.push_back({static_cast<int64_t>(blocks.size()), s, begin + row, rows, position, firstKey, keys});
    }
  }
  return blocks;
}

// Floats, aligned to a cache line and not initialised.
class Buffer {
 public:
  explicit Buffer(int64_t size) : data_(static_cast<float*>(std::aligned_alloc(64, round_up(size + 1, 16) * 4))) {
    if (!data_) throw std::bad_alloc();
  }
  Buffer(Buffer&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }
  operator float*() { return data_; }
  operator const float*() const { return data_; }

 private:
  float* data_;
};

// Copies rows × width numbers at a stride, times factor, to [paddedRows, paddedWidth], padded with zeros.
inline void copy_rows(const float* x, int64_t stride, int64_t rows, int64_t width, float factor, float* to,
                      int64_t paddedRows, int64_t paddedWidth) {
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t i = 0; i < width; i++) to[r * paddedWidth + i] = x[r * stride + i] * factor;
    for (int64_t i = width; i < paddedWidth; i++) to[r * paddedWidth + i] = 0;
  }
  for (int64_t i = rows * paddedWidth; i < paddedRows * paddedWidth; i++) to[i] = 0;
}

// The same, transposed, to [width, paddedRows].
inline void copy_transposed(const float* x, int64_t stride, int64_t rows, int64_t width, float factor, float* to,
                            int64_t paddedRows) {
  for (int64_t i = 0; i < width; i++) {
    for (int64_t r = 0; r < rows; r++) to[i * paddedRows + r] = x[r * stride + i] * factor;
    for (int64_t r = rows; r < paddedRows; r++) to[i * paddedRows + r] = 0;
  }
}

// One vector of positions: first, first + 1, …
inline Ints positions_from(int64_t first) { return lane_numbers() + static_cast<int32_t>(first); }
