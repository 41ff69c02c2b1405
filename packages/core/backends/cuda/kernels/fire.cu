// FIRE's attention bias (https://arxiv.org/abs/2310.04418): a small network of the distance, logarithmic and relative to
// the query's position, evaluated where the logits lie; and the gradients of its parameters, summed in a fixed order.
#include "fire_network.cuh"
#include "plain_rows.cuh"

// What a query row has in common: x = log(c·distance + 1) / denominator.
struct Position {
  float c, longest, denominator;
  bool past;  // whether the threshold, not the position, is in the denominator
  __device__ Position(const FireNetwork& f, int position) {
    c = fabsf(*f.c);
    const float threshold = fabsf(*f.threshold * f.initialThreshold);
    past = threshold > (float)position;
    longest = fmaxf((float)position, threshold);
    denominator = logf(c * longest + 1.f) + 1e-6f;
  }
};

__device__ __forceinline__ void load_network(const FireNetwork& f, int head, float* network) {
  for (int w = threadIdx.x; w < f.width; w += blockDim.x) {
    network[w] = f.w1[w];
    network[f.width + w] = f.b1[w];
    network[2 * f.width + w] = f.w2[(i64)head * f.width + w];
  }
  __syncthreads();
}

// Adds bias / scale to the logits that a row sees, so that scale · logit holds it.
extern "C" __global__ void fire_bias(float* logits, FireNetwork f, LogitBlock b, int window) {
  extern __shared__ float network[];
  const int head = blockIdx.y * b.group + b.g;
  load_network(f, head, network);
  const int lane = threadIdx.x & 31, row = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (row >= b.rows) return;
  float* z = logits + ((i64)blockIdx.y * b.rows + row) * b.stride;
  const Span s = seen(b, row, window);
  const Position at(f, s.to - 1);
  for (int i = s.from + lane; i < s.to; i += 32) {
    const float x = logf(at.c * (s.to - 1 - i) + 1.f) / at.denominator;
    float bias = f.b2[head];
    for (int w = 0; w < f.width; w++)
      bias = fmaf(network[2 * f.width + w], fmaxf(fmaf(network[w], x, network[f.width + w]), 0.f), bias);
    z[i] += bias / b.scale;
  }
}

// Sums over the pairs of a block's rows, one line [3W + 3] a block and head: Σ dB·before₊ (for w2), Σ dB·x and Σ dB where a
// unit is on (for w1 and b1, to be multiplied by w2), Σ dB (for b2), and the gradients of |c| and of the threshold.
constexpr int MOST_GROUPS = MOST_UNITS / 32;  // of the lanes of a warp
extern "C" __global__ void fire_grad(float* partial, const bf16* dLogits, FireNetwork f, LogitBlock b, int window) {
  extern __shared__ float network[];
  const int head = blockIdx.y * b.group + b.g, W = f.width, columns = 3 * W + 3;
  load_network(f, head, network);
  float* sums = network + 3 * W;  // [warps][3W + 3]
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row = blockIdx.x * (blockDim.x >> 5) + warp;
  float output[MOST_GROUPS] = {}, slopes[MOST_GROUPS] = {}, offsets[MOST_GROUPS] = {}, total = 0.f, dC = 0.f, dThreshold = 0.f;
  if (row < b.rows) {
    const bf16* dz = dLogits + ((i64)blockIdx.y * b.rows + row) * b.stride;
    const Span s = seen(b, row, window);
    const Position at(f, s.to - 1);
    const float share = at.longest / (at.c * at.longest + 1.f);  // of c's gradient, through the denominator
    for (int from = s.from; from < s.to; from += 32) {
      const int i = from + lane;
      const float distance = (float)(s.to - 1 - i), numerator = i < s.to ? logf(at.c * distance + 1.f) : 0.f;
      const float x = numerator / at.denominator, dB = i < s.to ? bf16_to_float(dz[i]) / b.scale : 0.f;
      total += dB;
      float slope = 0.f;
      for (int w = 0; w < W; w++)
        slope += fmaf(network[w], x, network[W + w]) > 0.f ? network[w] * network[2 * W + w] : 0.f;
      if (i < s.to) {
        const float dNumerator = dB * slope / at.denominator, dDenominator = -dNumerator * x;
        dC += dNumerator * distance / (at.c * distance + 1.f) + dDenominator * share;
        if (at.past) dThreshold += dDenominator * at.c / (at.c * at.longest + 1.f);
      }
#pragma unroll
      for (int group = 0; group < MOST_GROUPS; group++) {
        if (group * 32 >= W) continue;
        const int w = min(group * 32 + lane, W - 1);
        const float w1 = network[w], b1 = network[W + w];
        for (int k = 0; k < 32; k++) {
          const float xk = __shfl_sync(0xffffffffu, x, k), dk = __shfl_sync(0xffffffffu, dB, k);
          const float before = fmaf(w1, xk, b1);
          if (before > 0.f) output[group] += dk * before, slopes[group] += dk * xk, offsets[group] += dk;
        }
      }
    }
  }
  float* mine = sums + warp * columns;
#pragma unroll
  for (int group = 0; group < MOST_GROUPS; group++)
    if (const int w = group * 32 + lane; w < W) mine[w] = output[group], mine[W + w] = slopes[group], mine[2 * W + w] = offsets[group];
  total = warp_sum(total), dC = warp_sum(dC), dThreshold = warp_sum(dThreshold);
  if (lane == 0) mine[3 * W] = total, mine[3 * W + 1] = dC, mine[3 * W + 2] = dThreshold;
  __syncthreads();
  float* out = partial + ((i64)blockIdx.x * gridDim.y + blockIdx.y) * columns;
  for (int i = threadIdx.x; i < columns; i += blockDim.x) {
    float sum = 0.f;
    for (int w = 0; w < (int)(blockDim.x >> 5); w++) sum += sums[w * columns + i];
    out[i] = sum;
  }
}

// sums [group][kvHeads][3W + 3] to the gradients of the six parameters; one block.
extern "C" __global__ void fire_combine(float* dW1, float* dB1, float* dW2, float* dB2, float* dC, float* dThreshold,
                                        const float* sums, FireNetwork f, int kvHeads, int group) {
  const int W = f.width, columns = 3 * W + 3, heads = kvHeads * group;
  const auto of = [&](int head) { return sums + ((i64)(head % group) * kvHeads + head / group) * columns; };
  for (int i = threadIdx.x; i < heads * W; i += blockDim.x) dW2[i] = of(i / W)[i % W];
  for (int head = threadIdx.x; head < heads; head += blockDim.x) dB2[head] = of(head)[3 * W];
  for (int w = threadIdx.x; w < W; w += blockDim.x) {
    float slope = 0.f, offset = 0.f;
    for (int head = 0; head < heads; head++) {
      const float w2 = f.w2[(i64)head * W + w];
      slope = fmaf(w2, of(head)[W + w], slope), offset = fmaf(w2, of(head)[2 * W + w], offset);
    }
    dW1[w] = slope, dB1[w] = offset;
  }
  if (threadIdx.x != 0) return;
  float c = 0.f, threshold = 0.f;
  for (int head = 0; head < heads; head++) c += of(head)[3 * W + 1], threshold += of(head)[3 * W + 2];
  const auto sign = [](float x) { return (float)(x > 0.f) - (float)(x < 0.f); };
  *dC = c * sign(*f.c);
  *dThreshold = threshold * sign(*f.threshold) * fabsf(f.initialThreshold);
}
