// The next token of each row from its logits: the topK most likely, of those the most likely that have probability topP
// together, of those the ones at least minP as probable as the first; then a draw among them by one number. Nothing is sorted.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "parallel.h"
#include "vector.h"

namespace {

// Below this many logits, waking other threads costs more than it gains.
constexpr int64_t kAlone = 1 << 14;

struct Settings {
  double temperature, topK, topP, minP, uniform;
};

// Tokens of a larger weight than `least`, and the first `ties` of just that weight.
struct Selection {
  float least;
  int64_t ties;
};

struct Least {
  float least;
  int64_t count;
  double mass;
};

float middle(float a, float b, float c) { return std::max(std::min(a, b), std::min(std::max(a, b), c)); }

// A thread's own memory: the system's would cost as much as a part of the draw.
struct Workspace {
  std::vector<float> weights, part;
  std::vector<double> masses;
  std::vector<int32_t> counts;
};

// The largest weight in [begin, end) so that the tokens of at least it are `count` or more and have `mass` or more, those of
// larger weights than all of these included (`above`); and how many are of a larger one, and their mass. Like quickselect: each
// turn keeps the part in which it must lie.
Least least_among(float* begin, float* end, Least above, int64_t count, double mass) {
  for (;;) {
    const float pivot = middle(*begin, begin[(end - begin) / 2], end[-1]);
    // [begin, larger) is larger than the pivot, [larger, i) equal, [smaller, end) smaller.
    float *larger = begin, *i = begin, *smaller = end;
    double sum = 0;
    while (i < smaller) {
      const float value = *i;
      if (value > pivot) {
        sum += value;
        std::swap(*i++, *larger++);
      } else if (value < pivot) {
        std::swap(*i, *--smaller);
      } else {
        i++;
      }
    }
    const int64_t nextCount = above.count + (larger - begin), equal = smaller - larger;
    const double nextMass = above.mass + sum;
    if (larger > begin && nextCount >= count && nextMass >= mass) {
      end = larger;
    } else if ((nextCount + equal >= count && nextMass + equal * double(pivot) >= mass) || smaller == end) {
      return {pivot, nextCount, nextMass};
    } else {
      above.count = nextCount + equal;
      above.mass = nextMass + equal * double(pivot);
      begin = smaller;
    }
  }
}

// Weights are of [0, 1], where the order of numbers is that of their bits; these are the bits of exponent and three more.
constexpr int kDropped = 20;
constexpr int32_t kBuckets = (0x3f800000 >> kDropped) + 1;

int32_t bucket_of(float weight) {
  int32_t bits;
  std::memcpy(&bits, &weight, sizeof(bits));
  return std::min(bits >> kDropped, kBuckets - 1);
}

// The same of all weights: only those of one bucket need be told apart.
Least least_of(Workspace& own, int64_t count, double mass) {
  own.masses.assign(kBuckets, 0);
  own.counts.assign(kBuckets, 0);
  for (const float weight : own.weights) {
    const int32_t bucket = bucket_of(weight);
    own.masses[bucket] += weight;
    own.counts[bucket]++;
  }
  Least above = {0, 0, 0}, before = above;
  int32_t found = 0;
  for (int32_t bucket = kBuckets - 1; bucket >= 0; bucket--) {
    if (own.counts[bucket] == 0) continue;
    // Where rounding leaves the mass short of what is asked, the last bucket it is.
    before = above;
    found = bucket;
    above.count += own.counts[bucket];
    above.mass += own.masses[bucket];
    if (above.count >= count && above.mass >= mass) break;
  }
  own.part.resize(own.weights.size());
  float* end = own.part.data();
  for (const float weight : own.weights) {
    *end = weight;
    end += bucket_of(weight) == found;
  }
  return least_among(own.part.data(), end, before, count, mass);
}

// weights[i] = 2^((x[i] − most) · factor); their sum.
double weigh(const float* x, int64_t size, float most, float factor, float* weights) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(weights + i, exp2_or_zero((load(x + i) - most) * factor));
  for (; i < size; i++) weights[i] = exp2_or_zero(splat((x[i] - most) * factor))[0];
  double total = 0;
#pragma omp simd reduction(+ : total)
  for (i = 0; i < size; i++) total += weights[i];
  return total;
}

Selection selection(Workspace& own, double whole, const Settings& s) {
  const int64_t size = static_cast<int64_t>(own.weights.size());
  Selection kept = {-1.0f, 0};
  double mass = whole;
  if (s.topK < static_cast<double>(size)) {
    const Least found = least_of(own, static_cast<int64_t>(s.topK), 0);
    kept = {found.least, static_cast<int64_t>(s.topK) - found.count};
    mass = found.mass + kept.ties * double(found.least);
  }
  if (s.topP < 1) {
    const Least found = least_of(own, 1, s.topP * mass);
    const double ties = std::max(1.0, std::ceil((s.topP * mass - found.mass) / found.least));
    const int64_t count = static_cast<int64_t>(std::min(ties, static_cast<double>(size)));
    kept = {found.least, found.least == kept.least ? std::min(count, kept.ties) : count};
  }
  // The most likely token's weight is 1.
  const float least = static_cast<float>(s.minP);
  return least > kept.least && least > 0 ? Selection{least, size} : kept;
}

// Behind which token those of just the least weight are left out.
int64_t end_of_ties(const std::vector<float>& weights, const Selection& kept) {
  const int64_t size = static_cast<int64_t>(weights.size());
  int64_t seen = 0;
  for (int64_t i = 0; i < size; i++) {
    seen += weights[i] == kept.least;
    if (seen > kept.ties) return i;
  }
  return size;
}

int32_t draw(std::vector<float>& weights, const Selection& kept, double uniform) {
  const int64_t size = static_cast<int64_t>(weights.size());
  if (kept.least >= 0) {
    const int64_t ties = end_of_ties(weights, kept);
    const float least = kept.least;
#pragma omp simd
    for (int64_t i = 0; i < ties; i++) weights[i] = weights[i] >= least ? weights[i] : 0.0f;
#pragma omp simd
    for (int64_t i = ties; i < size; i++) weights[i] = weights[i] > least ? weights[i] : 0.0f;
  }
  // First the run of tokens, then the token in it.
  constexpr int64_t kRun = 256;
  const auto sum = [&](int64_t begin) {
    double total = 0;
    const int64_t end = std::min(size, begin + kRun);
#pragma omp simd reduction(+ : total)
    for (int64_t i = begin; i < end; i++) total += weights[i];
    return total;
  };
  double whole = 0;
  for (int64_t begin = 0; begin < size; begin += kRun) whole += sum(begin);
  double point = uniform * whole;
  int64_t begin = 0;
  for (double own; begin + kRun < size && point >= (own = sum(begin)); begin += kRun) point -= own;
  // Where rounding leads past the last token, it is that one.
  int64_t i = begin, last = -1;
  for (; i < size; i++) {
    if (weights[i] == 0) continue;
    last = i;
    point -= weights[i];
    if (point < 0) break;
  }
  while (last < 0) if (weights[--begin] > 0) last = begin;
  return static_cast<int32_t>(last);
}

// The first of the largest; NaN where there is one.
float most_of(const float* x, int64_t size, int32_t* first) {
  float most = x[0];
  int32_t bad = 0;
#pragma omp simd reduction(max : most) reduction(| : bad)
  for (int64_t i = 0; i < size; i++) {
    bad |= x[i] != x[i];
    most = x[i] > most ? x[i] : most;
  }
  *first = static_cast<int32_t>(std::find(x, x + size, most) - x);
  return bad ? NAN : most;
}

}  // namespace

// logits [rows, vocabSize], settings [rows]. The logarithm of a token's probability is that in the softmax of the logits. Where
// the largest logit is not finite the token is −1, and it takes the logarithm's place.
extern "C" void sb_sample(int64_t rows, int64_t vocabSize, const float* logits, const Settings* settings, int32_t* tokens,
                          float* logProbabilities) {
  const auto work = [&](int64_t row) {
    const float* x = logits + row * vocabSize;
    const Settings& s = settings[row];
    int32_t token;
    const float most = most_of(x, vocabSize, &token);
    if (!std::isfinite(most)) {
      tokens[row] = -1;
      logProbabilities[row] = most;
      return;
    }
    thread_local Workspace own;
    own.weights.resize(vocabSize);
    float* weights = own.weights.data();
    const double total = weigh(x, vocabSize, most, kLog2E, weights);
    if (s.temperature > 0) {
      const double whole =
          s.temperature == 1 ? total
                             : weigh(x, vocabSize, most, static_cast<float>(std::min(kLog2E / s.temperature, 1e38)), weights);
      token = draw(own.weights, selection(own, whole, s), s.uniform);
    }
    tokens[row] = token;
    logProbabilities[row] = static_cast<float>(x[token] - most - std::log(total));
  };
  if (rows * vocabSize < kAlone) {
    for (int64_t row = 0; row < rows; row++) work(row);
  } else {
    parallel_for(rows, work);
  }
}
