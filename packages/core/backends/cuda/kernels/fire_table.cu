// FIRE for the fused kernels: its table before them, and after them the gradients of its parameters.
#include "fire_network.cuh"
#include "fire_table.cuh"

constexpr float LOG2E = 1.4426950408889634f;
constexpr int EVERY_SEGMENT = 1 << 30;

// One block of MOST_UNITS threads a head.
extern "C" __global__ void fire_table(FireTable table, FireNetwork f) {
  __shared__ float knots[MOST_UNITS];
  __shared__ int first[MOST_UNITS], from[MOST_UNITS], to[MOST_UNITS];
  const int W = f.width, w = threadIdx.x, head = blockIdx.x;
  float w1 = 0.f, knot = INFINITY;
  if (w < W) {
    w1 = f.w1[w];
    const float at = -f.b1[w] / w1;
    // At 0 lie pairs of distance 0. A unit that falls from there on is never on.
    if ((w1 > 0.f && at >= 0.f && at < 1.f) || (w1 < 0.f && at > 0.f && at < 1.f)) knot = at;
  }
  knots[w] = knot;
  __syncthreads();
  bool mine = knot < 1.f;
  for (int v = 0; v < w; v++) mine = mine && knots[v] != knot;
  first[w] = mine;
  __syncthreads();
  int count = 0, below = 0;
  for (int v = 0; v < MOST_UNITS; v++) count += first[v], below += first[v] && knots[v] < knot;
  if (knot < 1.f) {
    from[w] = w1 > 0.f ? below + 1 : 0;
    to[w] = w1 > 0.f ? EVERY_SEGMENT : below + 1;
  } else {
    from[w] = 0;
    to[w] = w < W && fmaf(w1, 0.5f, f.b1[w]) > 0.f ? EVERY_SEGMENT : 0;
  }
  __syncthreads();
  for (int s = w; s <= count; s += blockDim.x) {
    double slope = 0, intercept = f.b2[head];
    for (int v = 0; v < W; v++)
      if (from[v] <= s && s < to[v]) {
        const double w2 = f.w2[(i64)head * W + v];
        slope += w2 * f.w1[v], intercept += w2 * f.b1[v];
      }
    table.segments(head)[s] = make_float2((float)(slope * LOG2E), (float)(intercept * LOG2E));
  }
  if (head != 0 || w >= W) return;
  if (mine) table.knots()[below] = knot;
  table.from()[w] = from[w], table.to()[w] = to[w];
  if (w == 0) table.count() = count, table.c() = fabsf(*f.c), table.threshold() = fabsf(*f.threshold * f.initialThreshold);
}

// sums [H, 2W + 1, 4] to the gradients of the six parameters; one block. Segments' sums are added up in place first.
extern "C" __global__ void fire_gradients(float* dW1, float* dB1, float* dW2, float* dB2, float* dC, float* dThreshold,
                                          float* sums, FireTable table, FireNetwork f) {
  const int W = f.width, H = table.heads, columns = fire_columns(W), count = table.count();
  const auto segment = [&](int head, int s, int sum) -> float& { return sums[head * columns + s * FIRE_SUMS + sum]; };
  const auto beyond = [&](int head, int k, int sum) { return sums[head * columns + (W + 1 + k) * FIRE_SUMS + sum]; };
  for (int i = threadIdx.x; i < H * FIRE_SUMS; i += blockDim.x) {
    const int head = i / FIRE_SUMS, sum = i % FIRE_SUMS;
    const float2* line = table.segments(head);
    float total = 0.f, weighted = 0.f;
    for (int s = 0; s <= count; s++) {
      const float one = segment(head, s, sum);
      weighted = fmaf(line[s].x, one, weighted);
      if (s < count) weighted = fmaf(line[s + 1].x - line[s].x, beyond(head, s, sum), weighted);
      segment(head, s, sum) = total += one;
    }
    if (sum >= 2) segment(head, 0, sum) = weighted / LOG2E;  // c's and the threshold's are done
  }
  __syncthreads();
  // Over the pairs where unit w is on.
  const auto on = [&](int head, int w, int sum) {
    const int from = table.from()[w], to = table.to()[w];
    const float all = segment(head, count, sum);
    if (from > 0) return all - segment(head, from - 1, sum) + beyond(head, from - 1, sum);
    if (to > count) return all;
    return to > 0 ? segment(head, to - 1, sum) - beyond(head, to - 1, sum) : 0.f;
  };
  for (int i = threadIdx.x; i < H * W; i += blockDim.x) {
    const int head = i / W, w = i % W;
    dW2[i] = fmaf(f.w1[w], on(head, w, 1), f.b1[w] * on(head, w, 0));
  }
  for (int head = threadIdx.x; head < H; head += blockDim.x) dB2[head] = segment(head, count, 0);
  for (int w = threadIdx.x; w < W; w += blockDim.x) {
    float slope = 0.f, offset = 0.f;
    for (int head = 0; head < H; head++) {
      const float w2 = f.w2[(i64)head * W + w];
      slope = fmaf(w2, on(head, w, 1), slope), offset = fmaf(w2, on(head, w, 0), offset);
    }
    dW1[w] = slope, dB1[w] = offset;
  }
  if (threadIdx.x != 0) return;
  float c = 0.f, threshold = 0.f;
  for (int head = 0; head < H; head++) c += segment(head, 0, 2), threshold += segment(head, 0, 3);
  const auto sign = [](float x) { return (float)(x > 0.f) - (float)(x < 0.f); };
  *dC = c * sign(*f.c);
  *dThreshold = threshold * sign(*f.threshold) * fabsf(f.initialThreshold);
}
