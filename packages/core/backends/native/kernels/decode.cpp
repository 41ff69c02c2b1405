// Attention of one new token for each of several documents, whose keys and values lie in pages. Stick-breaking attention walks
// from the newest key and stops where every stick of a group of heads is exhausted.
#include "decode.h"

#include "parallel.h"

namespace {

// Turns one row by its angles: pairs (i, i + D/2).
void turn(const float* x, int64_t heads, int64_t dim, const float* cosines, const float* sines, float* y) {
  const int64_t half = dim / 2;
  for (int64_t h = 0; h < heads; h++) {
    const float *from = x + h * dim;
    float* to = y + h * dim;
    for (int64_t i = 0; i < half; i++) {
      const float first = from[i], second = from[i + half];
      to[i] = first * cosines[i] - second * sines[i];
      to[i + half] = second * cosines[i] + first * sines[i];
    }
  }
}

// Segments of a row in which a query sees keys: the last one that has any, and how many of them.
struct Segments {
  int64_t first, last;
  Segments(const DecodeShape& shape, int64_t row)
      : first(shape.first(row) / kSegment), last(shape.end(row) > 0 ? (shape.end(row) - 1) / kSegment : -1) {}
};

// What a row and its heads take beside the results; a thread's own, as memory of the system's costs as much as some keys.
struct Workspace {
  std::vector<float> queries, outputs, left, largest, sum;
  std::vector<SegmentResult> results;
  std::vector<int64_t> read;

  Workspace& reset(int64_t group, int64_t dim, int64_t wave) {
    queries.resize(group * dim);
    outputs.resize(wave * group * dim);
    results.resize(wave * group);
    for (int64_t i = 0; i < wave * group; i++) results[i].output = outputs.data() + i * dim;
    read.resize(wave);
    left.assign(group, 1.0f);
    largest.assign(group, -1e30f);
    sum.assign(group, 0.0f);
    return *this;
  }
};

// A row and key-value head, from the newest segment to the oldest, `wave` segments at a time on as many threads.
void decode_group(const DecodeShape& shape, int64_t row, int64_t kvHead, int64_t wave, const float* query,
                  const float* keyPages, const float* valuePages, float* output, float* remainder, int32_t* keysRead) {
  const FlushTinyToZero flush;
  const int64_t group = shape.group(), dim = shape.headDim;
  thread_local Workspace workspace;
  auto& [queries, outputs, left, largest, sum, results, read] = workspace.reset(group, dim, wave);
  for (int64_t i = 0; i < group * dim; i++) queries[i] = query[i] * shape.logitScale;
  std::fill(output, output + group * dim, 0.0f);
  int64_t total = 0;

  const Segments segments(shape, row);
  bool exhausted = false;
  for (int64_t last = segments.last; last >= segments.first && !exhausted; last -= wave) {
    const int64_t count = std::min(wave, last - segments.first + 1);
    parallel_for(count, [&, queries = queries.data(), results = results.data(), read = read.data()](int64_t w) {
      const FlushTinyToZero flushed;
      const int64_t begin = std::max(shape.first(row), (last - w) * kSegment);
      const int64_t end = std::min(shape.end(row), (last - w + 1) * kSegment);
      read[w] = decode_segment(shape, row, kvHead, begin, end, queries, keyPages, valuePages, results + w * group);
    });
    for (int64_t w = 0; w < count && !exhausted; w++) {
      exhausted = shape.stickBreaking;
      total += read[w];
      for (int64_t g = 0; g < group; g++) {
        const SegmentResult& part = results[w * group + g];
        float* to = output + g * dim;
        if (shape.stickBreaking) {
          add_scaled(to, left[g], part.output, dim);
          left[g] *= part.left;
          exhausted = exhausted && !(left[g] >= shape.exhausted);
        } else {
          const float most = std::max(largest[g], part.largest);
          const float before = exp2_or_zero(splat(largest[g] - most))[0];
          const float now = exp2_or_zero(splat(part.largest - most))[0];
          for (int64_t i = 0; i < dim; i++) to[i] = to[i] * before + part.output[i] * now;
          sum[g] = sum[g] * before + part.sum * now;
          largest[g] = most;
        }
      }
    }
  }
  for (int64_t g = 0; g < group; g++) {
    if (!shape.stickBreaking && sum[g] > 0) {
      const float inverse = 1.0f / sum[g];
      for (int64_t i = 0; i < dim; i++) output[g * dim + i] *= inverse;
    }
    remainder[g] = shape.stickBreaking ? left[g] : 0.0f;
  }
  *keysRead = static_cast<int32_t>(total);
}

}  // namespace

extern "C" void sb_get_threads(int32_t* threads);

// cosines, sines [positions, headDim/2], or null. k, v [rows, kvHeads, headDim] go to the documents' last places.
extern "C" void sb_decode(int64_t rows, int64_t heads, int64_t kvHeads, int64_t headDim, int64_t pageTokens,
                          int64_t tableWidth, const int32_t* lengths, const int32_t* table, float scale,
                          int32_t stickBreaking, int32_t attendCurrent, int64_t window, const float* slopes,
                          const float* cosines, const float* sines, const float* q, const float* k, const float* v,
                          float* keyPages, float* valuePages, float* output, float* remainder, int32_t* keysRead) {
  const float exhausted = block_skipping() ? kExhausted : 0.0f;
  const DecodeShape shape{rows,    heads, kvHeads,        headDim,            pageTokens,         tableWidth,
                          lengths, table, scale * kLog2E, stickBreaking != 0, attendCurrent != 0, window,
                          slopes,  exhausted};
  const int64_t group = shape.group(), half = headDim / 2;
  int32_t threads;
  sb_get_threads(&threads);
  // Rows and heads fill the threads; where they are too few, segments do.
  const int64_t wave = rows * kvHeads >= 2 * threads ? 1 : threads;
  const auto work = [&](int64_t item) {
    const int64_t row = item / kvHeads, kvHead = item % kvHeads, at = row * heads + kvHead * group;
    float *outputs = output + at * headDim, *remainders = remainder + at;
    if (lengths[row] == 0) {
      std::fill(outputs, outputs + group * headDim, 0.0f);
      std::fill(remainders, remainders + group, 0.0f);
      keysRead[item] = 0;
      return;
    }
    const int64_t position = lengths[row] - 1, page = table[row * tableWidth + position / pageTokens];
    const int64_t place = ((page * kvHeads + kvHead) * pageTokens + position % pageTokens) * headDim;
    const float* key = k + item * headDim;
    std::vector<float> turned;
    const float* query = q + at * headDim;
    if (cosines) {
      turned.resize(group * headDim);
      turn(query, group, headDim, cosines + position * half, sines + position * half, turned.data());
      query = turned.data();
      turn(key, 1, headDim, cosines + position * half, sines + position * half, keyPages + place);
    } else {
      std::copy(key, key + headDim, keyPages + place);
    }
    std::copy(v + item * headDim, v + (item + 1) * headDim, valuePages + place);
    decode_group(shape, row, kvHead, wave, query, keyPages, valuePages, outputs, remainders, keysRead + item);
  };
  if (wave > 1) {
    for (int64_t item = 0; item < rows * kvHeads; item++) work(item);
  } else {
    parallel_for(rows * kvHeads, work);
  }
}
