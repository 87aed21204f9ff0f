// One head's recurrent state, as the kernels see it. Plain data: kernel files include this.
#pragma once

#include <stdint.h>

namespace neutrino::compute {

struct StateTask {
  float* state;         // (rows, width)
  int64_t rows, width;  // delta net: key_dim, value_dim; Mamba2: state_size, head_dim
};

// S[n][p] = S[n][p] decay + x[p] (step b[n]);  y[p] = sum over n of S[n][p] c[n]
struct ScanInput {
  float decay, step;
  const float *x, *b, *c;  // (width), (rows), (rows)
};

}  // namespace neutrino::compute
