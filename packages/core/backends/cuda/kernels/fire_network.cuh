// The parameters of FIRE's network, in device memory.
#pragma once

struct FireNetwork {
  const float *w1, *b1, *w2, *b2, *c, *threshold;  // [W], [W], [H, W], [H], [1], [1]
  float initialThreshold;
  int width;
};
