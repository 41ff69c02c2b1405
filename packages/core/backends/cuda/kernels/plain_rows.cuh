// A block of logits [kv heads, rows, keys] that the matrix library made, and what of it a row sees.
#pragma once
#include "common.cuh"

struct LogitBlock {
  int rows, stride;     // rows of the block; row length of the buffers in elements
  int first;            // position, among its document's keys, of the block's first query
  int keys;             // keys seen by the block's last row
  int heads, group, g;  // kv heads in the block; query heads per kv head, and which of them this block holds
  int token;            // packed row of the block's first query
  float scale;
};

// Keys (row + first − window, row + first].
struct Span {
  int from, to;
};
__device__ __forceinline__ Span seen(const LogitBlock& b, int row, int window) {
  const int to = b.first + row + 1;
  return {window > 0 ? max(0, to - window) : 0, to};
}
