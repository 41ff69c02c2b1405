// The next token of each row from its logits: the topK most likely, of those the most likely that have probability topP
// together, of those the ones at least minP as probable as the first; then a draw among them by one number. Nothing is sorted.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "parallel.h"
#include "vector.h"

namespace {

// Below this many logits, waking other threads costs more than it gains.
constexpr int64_t kAlone = 1 << 17;

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

// The largest weight so that the tokens of at least it are `count` or more and have `mass` or more; and how many are of a larger
// one, and their mass. Like quickselect: each turn keeps the part in which it must lie.
Least least_of(std::vector<float>& values, int64_t count, double mass) {
  int64_t from = 0, to = static_cast<int64_t>(values.size());
  int64_t aboveCount = 0;
  double aboveMass = 0;
  for (;;) {
    const float pivot = middle(values[from], values[(from + to) / 2], values[to - 1]);
    // [from, larger) is larger than the pivot, [larger, i) equal, [smaller, to) smaller.
    int64_t larger = from, i = from, smaller = to;
    double sum = 0;
    while (i < smaller) {
      const float value = values[i];
      if (value > pivot) {
        sum += value;
        std::swap(values[i++], values[larger++]);
      } else if (value < pivot) {
        std::swap(values[i], values[--smaller]);
      } else {
        i++;
      }
    }
    const int64_t nextCount = aboveCount + larger - from, equal = smaller - larger;
    const double nextMass = aboveMass + sum;
    if (larger > from && nextCount >= count && nextMass >= mass) {
      to = larger;
    } else if ((nextCount + equal >= count && nextMass + equal * double(pivot) >= mass) || smaller == to) {
      return {pivot, nextCount, nextMass};
    } else {
      aboveCount = nextCount + equal;
      aboveMass = nextMass + equal * double(pivot);
      from = smaller;
    }
  }
}

// weights[i] = 2^((x[i] − most) · factor); their sum.
double weigh(const float* x, int64_t size, float most, float factor, float* weights) {
  double total = 0;
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    const Floats weight = exp2_or_zero((load(x + i) - most) * factor);
    store(weights + i, weight);
    total += sum_of(weight);
  }
  for (; i < size; i++) total += weights[i] = exp2_or_zero(splat((x[i] - most) * factor))[0];
  return total;
}

Selection selection(const std::vector<float>& weights, double whole, const Settings& s, std::vector<float>& scratch) {
  const int64_t size = static_cast<int64_t>(weights.size());
  Selection kept = {-1.0f, 0};
  double mass = whole;
  if (s.topK < static_cast<double>(size)) {
    scratch = weights;
    const Least found = least_of(scratch, static_cast<int64_t>(s.topK), 0);
    kept = {found.least, static_cast<int64_t>(s.topK) - found.count};
    mass = found.mass + kept.ties * double(found.least);
  }
  if (s.topP < 1) {
    scratch = weights;
    const Least found = least_of(scratch, 1, s.topP * mass);
    const double ties = std::max(1.0, std::ceil((s.topP * mass - found.mass) / found.least));
    const int64_t count = static_cast<int64_t>(std::min(ties, static_cast<double>(size)));
    kept = {found.least, found.least == kept.least ? std::min(count, kept.ties) : count};
  }
  // The most likely token's weight is 1.
  const float least = static_cast<float>(s.minP);
  return least > kept.least && least > 0 ? Selection{least, size} : kept;
}

int32_t draw(const std::vector<float>& weights, const Selection& kept, double uniform) {
  const int64_t size = static_cast<int64_t>(weights.size());
  double whole = 0;
  int64_t seen = 0;
  for (const float weight : weights) {
    if (weight > kept.least || (weight == kept.least && seen++ < kept.ties)) whole += weight;
  }
  double point = uniform * whole;
  int32_t last = 0;
  seen = 0;
  for (int64_t i = 0; i < size; i++) {
    const float weight = weights[i];
    if (!(weight > kept.least || (weight == kept.least && seen++ < kept.ties))) continue;
    last = static_cast<int32_t>(i);
    point -= weight;
    if (point < 0) break;
  }
  return last;
}

// The first of the largest; NaN where there is one.
float most_of(const float* x, int64_t size, int32_t* first) {
  float most = x[0];
  *first = 0;
  bool bad = false;
  for (int64_t i = 0; i < size; i++) {
    bad |= std::isnan(x[i]);
    if (x[i] > most) most = x[i], *first = static_cast<int32_t>(i);
  }
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
    std::vector<float> weights(vocabSize), scratch;
    const double total = weigh(x, vocabSize, most, kLog2E, weights.data());
    if (s.temperature > 0) {
      const double whole =
          s.temperature == 1 ? total
                             : weigh(x, vocabSize, most, static_cast<float>(std::min(kLog2E / s.temperature, 1e38)), weights.data());
      token = draw(weights, selection(weights, whole, s, scratch), s.uniform);
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
