// Products with an adapter's panels (compute/host_adapter.h): 16 lanes of the result at a time. Included by each table's file
// inside its unnamed namespace, after attention.inl, whose load_even() and load_odd() read pairs of terms. A tile of rows shares
// its loads of weights.

constexpr int64_t kLowRankChunk = 256;  // terms of an activation that are made floats at once

// x[first, first + n) of a row as floats: itself, or its integers in `space`.
inline const float* low_rank_terms(const LowRankTask& task, int64_t row, int64_t first, int64_t n,
                                   float* space) {
  const uint8_t* x = task.x + row * task.x_stride;
  if (task.scales == nullptr) return reinterpret_cast<const float*>(x) + first;
  const int16_t* words = reinterpret_cast<const int16_t*>(x) + first;
  for (int64_t i = 0; i < n; ++i) space[i] = static_cast<float>(words[i]);
  return space;
}

template <int rows, typename W>
inline void low_rank_tile(const LowRankTask& task, int64_t panel, int64_t row) {
  const W* w = reinterpret_cast<const W*>(task.weights) + panel * task.inner * 16;
  V sum[rows][4];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
    for (int chain = 0; chain < 4; ++chain) sum[m][chain] = splat(0.0f);
  for (int64_t first = 0; first < task.inner; first += kLowRankChunk) {
    const int64_t rest = task.inner - first, n = rest < kLowRankChunk ? rest : kLowRankChunk;
    alignas(64) float space[rows][kLowRankChunk];
    const float* x[rows];
    for (int m = 0; m < rows; ++m) x[m] = low_rank_terms(task, row + m, first, n, space[m]);
    for (int64_t i = 0; i < n; i += 4, w += 64) {
      const V terms[] = {load_even(w), load_odd(w), load_even(w + 32), load_odd(w + 32)};
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
        for (int chain = 0; chain < 4; ++chain)
          sum[m][chain] = fma(terms[chain], splat(x[m][i + chain]), sum[m][chain]);
    }
  }
  for (int m = 0; m < rows; ++m) {
    V y = add(add(sum[m][0], sum[m][2]), add(sum[m][1], sum[m][3]));
    if (task.scales != nullptr)
      y = multiply(y, splat(*reinterpret_cast<const float*>(task.scales + (row + m) * task.x_stride)));
    float* out = task.out + (row + m) * task.out_stride + panel * 16;
    store(out, task.add ? add(load(out), y) : y);
  }
}

template <typename W>
inline void low_rank_rows(const LowRankTask& task) {
  for (int64_t panel = 0; panel < task.panels; ++panel) {
    int64_t row = 0;
    for (; task.rows - row >= kLowRankTile; row += kLowRankTile)
      low_rank_tile<kLowRankTile, W>(task, panel, row);
    for (; row < task.rows; ++row) low_rank_tile<1, W>(task, panel, row);
  }
}

void low_rank(const LowRankTask& task) {
  task.bf16 ? low_rank_rows<uint16_t>(task) : low_rank_rows<float>(task);
}
