// Loops cut into pieces for the pool.
#pragma once
#include <algorithm>
#include <cstdint>

#include "parallel.h"

// body(begin, end) over [0, count) in pieces.
template <typename Body>
void in_pieces(int64_t count, int64_t piece, const Body& body) {
  parallel_for((count + piece - 1) / piece, [&](int64_t i) { body(i * piece, std::min(count, (i + 1) * piece)); });
}
