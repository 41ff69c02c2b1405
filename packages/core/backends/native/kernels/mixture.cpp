// A mixture of experts. The rows of each expert are brought together by a counting sort, which keeps the order of the tokens, and
// multiplied by the matmul of all other layers, one expert after the other; the threads share each matmul and each loop over
// rows. What a token's experts give is added in the order of the experts, so a token's bits depend on nothing but the token.
#include <algorithm>
#include <cmath>
#include <vector>

#include "exp.h"
#include "gemm.h"
#include "pieces.h"
#include "rowwise.h"

namespace {

constexpr int64_t kRowsPerItem = 16;
constexpr int64_t kTokensPerItem = 256;

struct Sizes {
  int64_t tokens, width, units, experts, active;
};

// Where each expert's rows begin, and of each row which choice it is (token·active + place among the token's choices).
struct Places {
  std::vector<int64_t> offsets;
  std::vector<int64_t> order;

  Places(const Sizes& sizes, const int32_t* choices)
      : offsets(sizes.experts + 1, 0), order(sizes.tokens * sizes.active) {
    const int64_t rows = static_cast<int64_t>(order.size());
    for (int64_t i = 0; i < rows; i++) offsets[choices[i] + 1]++;
    for (int64_t e = 0; e < sizes.experts; e++) offsets[e + 1] += offsets[e];
    std::vector<int64_t> next(offsets.begin(), offsets.end() - 1);
    for (int64_t i = 0; i < rows; i++) order[next[choices[i]]++] = i;
  }

  int64_t most() const {
    int64_t largest = 0;
    for (size_t e = 0; e + 1 < offsets.size(); e++) largest = std::max(largest, offsets[e + 1] - offsets[e]);
    return largest;
  }
};

// Room that stays between calls: fresh memory costs time. Only one thread calls these functions.
float* room(int which, int64_t size) {
  static std::vector<float> rooms[6];
  if (static_cast<int64_t>(rooms[which].size()) < size) {
    rooms[which].clear();
    rooms[which].resize(size);
  }
  return rooms[which].data();
}

// The softmax over a token's chosen logits, the largest of which is the first.
void gates_of(const Sizes& sizes, const float* logits, const int32_t* choices, int64_t token, float* gates) {
  const float* row = logits + token * sizes.experts;
  const int32_t* chosen = choices + token * sizes.active;
  float sum = 0;
  for (int64_t j = 0; j < sizes.active; j++) sum += gates[j] = fast_exp(row[chosen[j]] - row[chosen[0]]);
  for (int64_t j = 0; j < sizes.active; j++) gates[j] /= sum;
}

// All gates [tokens, active], in room of their own.
const float* all_gates(const Sizes& sizes, const float* logits, const int32_t* choices) {
  float* gates = room(0, sizes.tokens * sizes.active);
  in_pieces(sizes.tokens, kTokensPerItem, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) gates_of(sizes, logits, choices, t, gates + t * sizes.active);
  });
  return gates;
}

float log_sum_exp(const float* row, int64_t count) {
  float most = row[0];
  for (int64_t e = 1; e < count; e++) most = std::max(most, row[e]);
  float sum = 0;
  for (int64_t e = 0; e < count; e++) sum += fast_exp(row[e] - most);
  return most + std::log(sum);
}

// The rows of x that an expert's choices are of, one after the other.
void gather(const int64_t* order, int64_t rows, int64_t active, int64_t width, const float* x, float* to) {
  in_pieces(rows, kRowsPerItem, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const float* from = x + order[r] / active * width;
      std::copy(from, from + width, to + r * width);
    }
  });
}

// Adds weight · row to the rows of y that an expert's choices are of, all different; without weights the rows themselves.
void scatter(const int64_t* order, int64_t rows, int64_t active, int64_t width, const float* weights, const float* from,
             float* y) {
  in_pieces(rows, kRowsPerItem, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) {
      const float weight = weights ? weights[order[r]] : 1.0f;
      float* to = y + order[r] / active * width;
#pragma omp simd
      for (int64_t i = 0; i < width; i++) to[i] += weight * from[r * width + i];
    }
  });
}

// x·weightᵀ. With few tokens each row by itself, so that its bits do not depend on the others.
void product(const Sizes& sizes, int64_t rows, int64_t outs, int64_t depth, const float* x, const float* weight, float* y) {
  constexpr int64_t kFew = 64;
  if (rows == 0) return;
  if (sizes.tokens <= kFew) sb_rowwise(rows, outs, depth, x, weight, y);
  else gemm(false, true, rows, outs, depth, x, depth, weight, depth, y, outs, false);
}

// dLogits [tokens, experts] from the gradients of the gates [tokens, active] and from the routing's losses.
void logit_gradients(const Sizes& sizes, const float* logits, const int32_t* choices, const float* gates,
                     const float* dGates, const std::vector<float>& share, float balanceWeight, float zWeight,
                     float* dLogits) {
  const int64_t experts = sizes.experts, active = sizes.active;
  const float count = static_cast<float>(sizes.tokens);
  in_pieces(sizes.tokens, kTokensPerItem, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      const float* row = logits + t * experts;
      float* to = dLogits + t * experts;
      const float normaliser = log_sum_exp(row, experts);
      float average = 0;
      for (int64_t e = 0; e < experts; e++) average += (to[e] = fast_exp(row[e] - normaliser)) * share[e];
      const float ofBalance = balanceWeight * static_cast<float>(experts) / count, ofZ = zWeight * 2.0f / count;
      for (int64_t e = 0; e < experts; e++) to[e] *= ofBalance * (share[e] - average) + ofZ * normaliser;
      const float *gate = gates + t * active, *dGate = dGates + t * active;
      float along = 0;
      for (int64_t j = 0; j < active; j++) along += gate[j] * dGate[j];
      for (int64_t j = 0; j < active; j++) to[choices[t * active + j]] += gate[j] * (dGate[j] - along);
    }
  });
}

}  // namespace

// logits [tokens, experts]; choices [tokens, active], the largest first, of equal ones the lower; routing [2 + experts]: the
// balance loss, the z loss, how often each expert was chosen.
extern "C" void sb_route(int64_t tokens, int64_t experts, int64_t active, const float* logits, int32_t* choices,
                         float* routing) {
  const int64_t pieces = (tokens + kTokensPerItem - 1) / kTokensPerItem, columns = 1 + 2 * experts;
  // Of each piece the sum of logSumExp², the sums of the probabilities, and the counts: added in order afterwards.
  std::vector<double> sums(pieces * columns, 0.0);
  parallel_for(pieces, [&](int64_t piece) {
    double* own = sums.data() + piece * columns;
    for (int64_t t = piece * kTokensPerItem; t < std::min(tokens, (piece + 1) * kTokensPerItem); t++) {
      const float* row = logits + t * experts;
      int32_t* chosen = choices + t * active;
      for (int64_t j = 0; j < active; j++) {
        int64_t best = -1;
        for (int64_t e = 0; e < experts; e++) {
          if (std::find(chosen, chosen + j, static_cast<int32_t>(e)) != chosen + j) continue;
          if (best < 0 || row[e] > row[best]) best = e;
        }
        chosen[j] = static_cast<int32_t>(best);
        own[1 + experts + best] += 1;
      }
      const float normaliser = log_sum_exp(row, experts);
      own[0] += static_cast<double>(normaliser) * normaliser;
      for (int64_t e = 0; e < experts; e++) own[1 + e] += fast_exp(row[e] - normaliser);
    }
  });
  std::vector<double> all(columns, 0.0);
  for (int64_t piece = 0; piece < pieces; piece++) {
    for (int64_t i = 0; i < columns; i++) all[i] += sums[piece * columns + i];
  }
  const double count = static_cast<double>(std::max<int64_t>(1, tokens));
  double balance = 0;
  for (int64_t e = 0; e < experts; e++) balance += all[1 + e] * all[1 + experts + e];
  routing[0] = static_cast<float>(balance * static_cast<double>(experts) / (count * count * static_cast<double>(active)));
  routing[1] = static_cast<float>(all[0] / count);
  for (int64_t e = 0; e < experts; e++) routing[2 + e] = static_cast<float>(all[1 + experts + e]);
}

// x, y [tokens, width]; input [experts, 2·units, width]; output [experts, width, units]. `kept` [tokens·active, 2·units]: gate
// and up of each expert's rows, in the order of the experts.
extern "C" void sb_mixture(int64_t tokens, int64_t width, int64_t units, int64_t experts, int64_t active, const float* x,
                           const float* input, const float* output, const float* logits, const int32_t* choices,
                           float* kept, float* y) {
  const Sizes sizes{tokens, width, units, experts, active};
  const Places places(sizes, choices);
  const float* gates = all_gates(sizes, logits, choices);
  const int64_t most = places.most();
  float *rowsOfX = room(1, most * width), *hidden = room(2, most * units), *outputs = room(3, most * width);
  std::fill(y, y + tokens * width, 0.0f);
  for (int64_t e = 0; e < experts; e++) {
    const int64_t first = places.offsets[e], rows = places.offsets[e + 1] - first;
    const int64_t* order = places.order.data() + first;
    float* own = kept + first * 2 * units;
    gather(order, rows, active, width, x, rowsOfX);
    product(sizes, rows, 2 * units, width, rowsOfX, input + e * 2 * units * width, own);
    in_pieces(rows, kRowsPerItem, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; r++) {
        const float *gate = own + r * 2 * units, *up = gate + units;
#pragma omp simd
        for (int64_t i = 0; i < units; i++) hidden[r * units + i] = gate[i] * fast_sigmoid(gate[i]) * up[i];
      }
    });
    product(sizes, rows, width, units, hidden, output + e * width * units, outputs);
    scatter(order, rows, active, width, gates, outputs, y);
  }
}

// dRouter, dInput, dOutput are added to where `accumulate` says so, in its lowest three bits. balanceCounts [experts] or null: of
// which the balance loss takes the shares, in place of these tokens' own.
extern "C" void sb_mixture_grad(int64_t tokens, int64_t width, int64_t units, int64_t experts, int64_t active,
                                float balanceWeight, float zWeight, int32_t accumulate, const double* balanceCounts,
                                const float* x, const float* router,
                                const float* input, const float* output, const float* logits, const int32_t* choices,
                                const float* kept, const float* dy, float* dx, float* dRouter, float* dInput,
                                float* dOutput) {
  const Sizes sizes{tokens, width, units, experts, active};
  const Places places(sizes, choices);
  const float* gates = all_gates(sizes, logits, choices);
  const int64_t most = places.most();
  float *rowsOfX = room(1, most * width), *hidden = room(2, most * units), *rowsOfDy = room(3, most * width);
  float *both = room(4, most * 2 * units), *back = room(5, most * units);
  std::vector<float> dGates(tokens * active), share(experts);
  std::fill(dx, dx + tokens * width, 0.0f);
  for (int64_t e = 0; e < experts; e++) {
    const int64_t first = places.offsets[e], rows = places.offsets[e + 1] - first;
    const int64_t* order = places.order.data() + first;
    const float *ofInput = input + e * 2 * units * width, *ofOutput = output + e * width * units;
    const float* own = kept + first * 2 * units;
    share[e] = static_cast<float>(static_cast<double>(rows) / static_cast<double>(tokens * active));
    gather(order, rows, active, width, x, rowsOfX);
    gather(order, rows, active, width, dy, rowsOfDy);
    // back = outputᵀ·dy: with it neither the gradient of the gate nor any other needs what the expert gave.
    gemm(false, false, rows, units, width, rowsOfDy, width, ofOutput, units, back, units, false);
    in_pieces(rows, kRowsPerItem, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; r++) {
        const float *gate = own + r * 2 * units, *up = gate + units, *from = back + r * units;
        float *dGate = both + r * 2 * units, *dUp = dGate + units, *weighted = hidden + r * units;
        const float weight = gates[order[r]];
        float along = 0;
#pragma omp simd reduction(+ : along)
        for (int64_t i = 0; i < units; i++) {
          const float open = fast_sigmoid(gate[i]), silu = gate[i] * open, grad = weight * from[i];
          along += from[i] * silu * up[i];
          weighted[i] = weight * silu * up[i];
          dUp[i] = grad * silu;
          dGate[i] = grad * up[i] * (open + silu * (1.0f - open));
        }
        dGates[order[r]] = along;
      }
    });
    gemm(true, false, width, units, rows, rowsOfDy, width, hidden, units, dOutput + e * width * units, units,
         (accumulate & 4) != 0);
    gemm(true, false, 2 * units, width, rows, both, 2 * units, rowsOfX, width, dInput + e * 2 * units * width, width,
         (accumulate & 2) != 0);
    gemm(false, false, rows, width, 2 * units, both, 2 * units, ofInput, width, rowsOfX, width, false);
    scatter(order, rows, active, width, nullptr, rowsOfX, dx);
  }
  if (balanceCounts) {
    double all = 0;
    for (int64_t e = 0; e < experts; e++) all += balanceCounts[e];
    for (int64_t e = 0; e < experts; e++) share[e] = static_cast<float>(balanceCounts[e] / std::max(all, 1.0));
  }
  float* dLogits = room(4, tokens * experts);
  logit_gradients(sizes, logits, choices, gates, dGates.data(), share, balanceWeight, zWeight, dLogits);
  gemm(true, false, experts, width, tokens, dLogits, experts, x, width, dRouter, width, (accumulate & 1) != 0);
  gemm(false, false, tokens, width, experts, dLogits, experts, router, width, dx, width, true);
}
