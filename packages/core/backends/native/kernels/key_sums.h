// Sums over queries into keys, which dk and dv are. The query blocks of a document are cut into a few runs of consecutive
// blocks, by a rule that depends on the shapes alone; each run sums its blocks in order into a buffer of its own, and the
// buffers are summed in order. So any number of threads gives the same bits, and one document with one head still gives
// several threads work.
#pragma once
#include <algorithm>
#include <cmath>
#include <memory>

#include "packed.h"
#include "parallel.h"

// One item of work: consecutive query blocks of one document for one key-value head, and their sums of dk and dv.
struct Run {
  int64_t kvHead;
  int64_t firstBlock, endBlock;  // among the pack's blocks
  int64_t firstKey = 0, endKey = 0;  // the keys summed into, from the document's first, in whole blocks
  std::unique_ptr<Buffer> dk, dv, dBias;

  // Allocates zeroed sums for keys [from, to); of the keys' bias where it is asked for.
  void open(int64_t from, int64_t to, int64_t dim, bool withBias = false) {
    firstKey = from;
    endKey = to;
    const int64_t size = (to - from) * dim;
    for (auto* sums : {&dk, &dv}) {
      sums->reset(new Buffer(size));
      std::fill(**sums + 0, **sums + size, 0.0f);
    }
    if (!withBias) return;
    dBias.reset(new Buffer(to - from));
    std::fill(*dBias + 0, *dBias + (to - from), 0.0f);
  }
};

constexpr int64_t kWantedRuns = 16;
constexpr int64_t kMostRuns = 8;  // for one document and head: each may take as much memory as dk and dv

// Cuts the blocks into runs of about equal work: a query at position p sees p keys; with `windowed` all see about as many.
inline std::vector<Run> key_sum_runs(const Pack& pack, const std::vector<QueryBlock>& blocks, bool windowed) {
  if (blocks.empty()) return {};
  const int64_t wanted = (kWantedRuns + pack.documents * pack.kvHeads - 1) / (pack.documents * pack.kvHeads);
  std::vector<Run> runs;
  for (int64_t begin = 0, end; begin < static_cast<int64_t>(blocks.size()); begin = end) {
    end = begin;
    while (end < static_cast<int64_t>(blocks.size()) && blocks[end].document == blocks[begin].document) end++;
    const int64_t count = std::min({wanted, kMostRuns, end - begin});
    for (int64_t head = 0; head < pack.kvHeads; head++) {
      int64_t from = begin;
      for (int64_t i = 1; i <= count; i++) {
        const double part = static_cast<double>(i) / static_cast<double>(count);
        const double share = windowed ? part : std::sqrt(part);
        const int64_t to = i == count ? end : begin + static_cast<int64_t>(share * static_cast<double>(end - begin));
        if (to > from) {
          runs.emplace_back();
          runs.back().kvHead = head;
          runs.back().firstBlock = from;
          runs.back().endBlock = to;
        }
        from = to;
      }
    }
  }
  return runs;
}

// Adds the runs, in order, to dk and dv [M, kvHeads, headDim], and to dBias [M, kvHeads] where they have it; all must hold zeros.
inline void add_runs(const Pack& pack, const std::vector<QueryBlock>& blocks, const std::vector<Run>& runs, float* dk,
                     float* dv, float* dBias = nullptr) {
  const int64_t dim = pack.padded_dim(), runCount = static_cast<int64_t>(runs.size());
  std::vector<int64_t> firsts;  // the first run of each document and head
  for (int64_t i = 0; i < runCount; i++) {
    const bool same = i > 0 && runs[i].kvHead == runs[i - 1].kvHead &&
                      blocks[runs[i].firstBlock].document == blocks[runs[i - 1].firstBlock].document;
    if (!same) firsts.push_back(i);
  }
  parallel_for(static_cast<int64_t>(firsts.size()), [&](int64_t item) {
    const int64_t end = item + 1 < static_cast<int64_t>(firsts.size()) ? firsts[item + 1] : runCount;
    for (int64_t i = firsts[item]; i < end; i++) {
      const Run& run = runs[i];
      const QueryBlock& block = blocks[run.firstBlock];
      const int64_t keys = pack.cuSeqlensK[block.document + 1] - block.firstKey;
      for (int64_t key = run.firstKey; key < std::min(run.endKey, keys); key++) {
        const int64_t row = (block.firstKey + key) * pack.kvHeads + run.kvHead, to = row * pack.headDim;
        if (run.dBias) dBias[row] += (*run.dBias)[key - run.firstKey];
        const int64_t from = (key - run.firstKey) * dim;
        const float *dkRow = *run.dk + from, *dvRow = *run.dv + from;
        for (int64_t d = 0; d < pack.headDim; d++) {
          dk[to + d] += dkRow[d];
          dv[to + d] += dvRow[d];
        }
      }
    }
  });
}
