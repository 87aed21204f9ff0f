// Products with an adapter's panels (compute/host_adapter.h): 16 lanes of the result at a time. Included by each table's file
// inside its unnamed namespace, after attention.inl, whose load_even() and load_odd() read pairs of terms. A tile of rows shares
// its loads of weights.

// ---- integers

constexpr int64_t kLowRankAhead =
    2048;  // bytes; what is read later is asked for now, as a piece is too short for the hardware

// Lets a row's sums have two chains, as an instruction's result is long in coming where there are few sums.
template <int rows, int panels>
inline void low_rank_tile(const LowRankTask& task, int64_t panel, int64_t row) {
  constexpr int kChains = rows == 1 ? 2 : 1;
  const int64_t scales_at = task.inner * 16,
                stride = scales_at + (task.inner + kLowRankRun - 1) / kLowRankRun * 64;
  const int8_t* const w = static_cast<const int8_t*>(task.weights) + panel * stride;
  const int16_t* x[rows];
  V total[rows][panels];
#pragma GCC unroll 4
  for (int m = 0; m < rows; ++m) {
    x[m] = reinterpret_cast<const int16_t*>(task.x + (row + m) * task.x_stride);
#pragma GCC unroll 4
    for (int p = 0; p < panels; ++p) total[m][p] = splat(0.0f);
  }
  for (int64_t first = 0; first < task.inner; first += kLowRankRun) {
    const int64_t end = smaller(task.inner, first + kLowRankRun);
    I sum[rows][panels][kChains];
#pragma GCC unroll 4
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
      for (int p = 0; p < panels; ++p)
#pragma GCC unroll 2
        for (int c = 0; c < kChains; ++c) sum[m][p][c] = splat_int(0);
    for (int64_t i = first; i < end; i += 4) {
#pragma GCC unroll 4
      for (int p = 0; p < panels; ++p) {
        if (rows == 1) __builtin_prefetch(w + p * stride + i * 16 + kLowRankAhead);
#pragma GCC unroll 2
        for (int c = 0; c < 2; ++c) {
          const auto pairs = load_pairs(w + p * stride + (i + 2 * c) * 16);
#pragma GCC unroll 4
          for (int m = 0; m < rows; ++m)
            sum[m][p][c % kChains] = add_pairs(sum[m][p][c % kChains], pairs, x[m] + i + 2 * c);
        }
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < panels; ++p) {
      const auto* scales =
          reinterpret_cast<const float*>(w + p * stride + scales_at + first / kLowRankRun * 64);
      if (rows == 1) __builtin_prefetch(scales + kLowRankAhead / 4);
#pragma GCC unroll 4
      for (int m = 0; m < rows; ++m) {
        const I all = kChains == 2 ? add(sum[m][p][0], sum[m][p][kChains - 1]) : sum[m][p][0];
        total[m][p] = fma(to_floats(all), load(scales), total[m][p]);
      }
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < rows; ++m) {
    const V scale = splat(*reinterpret_cast<const float*>(task.scales + (row + m) * task.x_stride));
#pragma GCC unroll 4
    for (int p = 0; p < panels; ++p) {
      float* out = task.out + (row + m) * task.out_stride + (panel + p) * 16;
      const V y = multiply(total[m][p], scale);
      store(out, task.add ? add(load(out), y) : y);
    }
  }
}

template <int panels>
inline void low_rank_rows(const LowRankTask& task, int64_t panel) {
  int64_t row = 0;
  if constexpr (panels <= 2)
    for (; task.rows - row >= kLowRankTile; row += kLowRankTile)
      low_rank_tile<kLowRankTile, panels>(task, panel, row);
  for (; row < task.rows; ++row) low_rank_tile<1, panels>(task, panel, row);
}

void low_rank(const LowRankTask& task) {
  int64_t panel = 0;
  if (task.rows < kLowRankTile)
    for (; task.panels - panel >= kLowRankPanels; panel += kLowRankPanels)
      low_rank_rows<kLowRankPanels>(task, panel);
  if constexpr (kLowRankPanels > 2)
    for (; task.panels - panel >= 2; panel += 2) low_rank_rows<2>(task, panel);
  for (; panel < task.panels; ++panel) low_rank_rows<1>(task, panel);
}

// A row as integers; their scale.
float round_words(const float* x, int64_t n, int16_t* out) {
  const float largest = largest_magnitude(x, n);
  if (!(largest < __builtin_inff()) || largest < kActivationTiny) {
    __builtin_memset(out, 0, static_cast<size_t>(n) * sizeof(int16_t));
    return largest < kActivationTiny ? 0.0f : __builtin_nanf("");
  }
  const V inverse = splat(kActivationMax / largest);
  for (int64_t i = 0; i < n; i += 16) {
    alignas(64) int16_t words[16];
    store_words(words, to_int(multiply(load_some(x + i, n - i), inverse)));
    __builtin_memcpy(out + i, words, static_cast<size_t>(smaller(16, n - i)) * sizeof(int16_t));
  }
  return largest / kActivationMax;
}

// ---- float32

template <int rows>
inline void low_rank_float_tile(const LowRankTask& task, int64_t panel, int64_t row) {
  const float* w = static_cast<const float*>(task.weights) + panel * task.inner * 16;
  const float* x[rows];
  V sum[rows][4];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    x[m] = reinterpret_cast<const float*>(task.x + (row + m) * task.x_stride);
#pragma GCC unroll 4
    for (int chain = 0; chain < 4; ++chain) sum[m][chain] = splat(0.0f);
  }
  for (int64_t i = 0; i < task.inner; i += 4, w += 64) {
    const V terms[] = {load_even(w), load_odd(w), load_even(w + 32), load_odd(w + 32)};
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
      for (int chain = 0; chain < 4; ++chain)
        sum[m][chain] = fma(terms[chain], splat(x[m][i + chain]), sum[m][chain]);
  }
  for (int m = 0; m < rows; ++m) {
    const V y = add(add(sum[m][0], sum[m][2]), add(sum[m][1], sum[m][3]));
    float* out = task.out + (row + m) * task.out_stride + panel * 16;
    store(out, task.add ? add(load(out), y) : y);
  }
}

void low_rank_float(const LowRankTask& task) {
  for (int64_t panel = 0; panel < task.panels; ++panel) {
    int64_t row = 0;
    for (; task.rows - row >= kLowRankTile; row += kLowRankTile)
      low_rank_float_tile<kLowRankTile>(task, panel, row);
    for (; row < task.rows; ++row) low_rank_float_tile<1>(task, panel, row);
  }
}
