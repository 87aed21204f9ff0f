// Products of many rows, for AVX2: a segment of a panel is unpacked once to whole int16 weights (unpack_avx2.inl), which all rows
// then multiply: one vpmaddwd and one addition for two columns of eight weight rows. Included by kernels_avx2.cpp.
//
// A group of columns is summed in int32. Where weights have no float factor, the sum of a row is kept in two int32: `high` is the
// sum of the groups' upper halves (it fits as S / 2^16 does: |S| <= 16256 sum|W| < 2^38, of words 2^31 a run: integer_weights.h),
// `total` that of the groups modulo 2^32. So S = 2^16 high + low, where low is total - 2^16 high: the groups' lower halves, which
// fit int32 for fewer than 2^15 groups. With float factors, which are integers of 18 bits, the groups' sums times their factors are
// summed in int64 (|S| < 2^53).

constexpr int64_t kUnpackedRowsMax = 192;        // that pass over one unpacked segment
constexpr int64_t kUnpackedBlocksMax = 1 << 13;  // 2^15 groups of eight columns

// Of an activation row with both halves of a panel.
struct RowSums {
  union {
    struct {
      __m256i total[2], high[2];
    };
    __m256i wide[2][2];  // int64: of the even rows, of the odd ones
  };
};

struct UnpackedWork {
  UnpackedMemory memory;
  RowSums sums[kUnpackedRowsMax];
};

// Eight columns, from column k on: the first ones of a group start its sum.
template <int rows, bool start>
[[gnu::always_inline]] inline void add_columns_8(const int16_t* w, const int16_t* const (&x)[rows], int64_t k,
                                                 __m256i (&sum)[rows][2]) {
  w += k * kPanelRows;
#pragma GCC unroll 4
  for (int pair = 0; pair < 4; ++pair, k += 2, w += 2 * kPanelRows) {
    const __m256i q[2] = {load32(w), load32(w + kPanelRows)};
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) {
      const __m256i v = broadcast4(x[m] + k);
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m256i product = _mm256_madd_epi16(q[half], v);
        sum[m][half] = start && pair == 0 ? product : _mm256_add_epi32(sum[m][half], product);
        keep_here(sum[m][half]);
      }
    }
  }
}

template <int rows>
[[gnu::always_inline]] inline void sum_group(const int16_t* w, const int16_t* const (&x)[rows], int64_t k,
                                             int64_t end, __m256i (&sum)[rows][2]) {
  add_columns_8<rows, true>(w, x, k, sum);
  for (k += 8; k < end; k += 8) add_columns_8<rows, false>(w, x, k, sum);
}

inline int64_t end_of_group(int64_t k, int64_t group, int64_t columns) {
  return k + group < columns ? k + group : columns;
}

template <int rows>
inline void add_groups(const Segment& segment, int64_t group, const int16_t* const (&x)[rows], RowSums* out) {
  const int64_t columns = segment.blocks * kColumnBlock;
  for (int64_t k = 0; k < columns; k += group) {
    __m256i sum[rows][2];
    sum_group<rows>(segment.weights, x, k, end_of_group(k, group, columns), sum);
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        out[m].total[half] = _mm256_add_epi32(out[m].total[half], sum[m][half]);
        out[m].high[half] = _mm256_add_epi32(out[m].high[half], _mm256_srai_epi32(sum[m][half], 16));
      }
  }
}

// to += sum * factors: vpmuldq takes the lower halves of 64 bits.
[[gnu::always_inline]] inline void add_scaled(__m256i sum, const int32_t* factors, __m256i (&to)[2]) {
  const auto* const e = reinterpret_cast<const __m256i*>(factors);
  to[0] = _mm256_add_epi64(to[0], _mm256_mul_epi32(sum, e[0]));
  to[1] = _mm256_add_epi64(to[1], _mm256_mul_epi32(_mm256_srli_epi64(sum, 32), e[1]));
}

template <typename Kind, int rows>
inline void add_scaled_groups(const Segment& segment, int64_t group, const int16_t* const (&x)[rows],
                              RowSums* out) {
  const int64_t columns = segment.blocks * kColumnBlock;
  for (int64_t k = 0; k < columns; k += group) {
    __m256i sum[rows][2];
    sum_group<rows>(segment.weights, x, k, end_of_group(k, group, columns), sum);
    const int32_t* factors = segment.factors + k / (Kind::factor_blocks * kColumnBlock) * kFactors;
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) add_scaled(sum[m][half], factors + 16 * half, out[m].wide[half]);
  }
}

inline void finish_narrow(const PanelTask& task, int64_t row, int64_t first, __m256i total, __m256i high) {
  const __m256i low = _mm256_sub_epi32(total, _mm256_slli_epi32(high, 16));
  const auto join = [](__m128i h, __m128i l) {
    return _mm256_fmadd_pd(_mm256_cvtepi32_pd(h), _mm256_set1_pd(65536), _mm256_cvtepi32_pd(l));
  };
  finish(task, row, first, join(_mm256_castsi256_si128(high), _mm256_castsi256_si128(low)),
         join(_mm256_extracti128_si256(high, 1), _mm256_extracti128_si256(low, 1)));
}

// int64 below 2^53 as float64. The lower 32 bits l become 2^52 + l by their place in its bits, the upper ones h, plus 2^31 to be
// positive, 2^84 + 2^63 + 2^32 h; every sum below is exact.
inline __m256d from_int64(__m256i v) {
  const __m256i low = _mm256_blend_epi32(_mm256_castpd_si256(_mm256_set1_pd(0x1p52)), v, 0x55);
  const __m256i high =
      _mm256_xor_si256(_mm256_srli_epi64(v, 32), _mm256_castpd_si256(_mm256_set1_pd(0x1p84 + 0x1p63)));
  return _mm256_add_pd(_mm256_castsi256_pd(low),
                       _mm256_sub_pd(_mm256_castsi256_pd(high), _mm256_set1_pd(0x1p84 + 0x1p63 + 0x1p52)));
}

inline void finish_wide(const PanelTask& task, int64_t row, int64_t first, const __m256i (&sum)[2]) {
  const __m128 even = _mm256_cvtpd_ps(from_int64(sum[0])), odd = _mm256_cvtpd_ps(from_int64(sum[1]));
  finish(task, row, first, _mm256_set_m128(_mm_unpackhi_ps(even, odd), _mm_unpacklo_ps(even, odd)));
}

template <typename Kind>
inline void finish_row(const PanelTask& task, int64_t row, int64_t panel, const RowSums& sums) {
  for (int half = 0; half < 2; ++half) {
    const int64_t first = panel * kPanelRows + 8 * half;
    if constexpr (Kind::factor_blocks > 0)
      finish_wide(task, row, first, sums.wide[half]);
    else
      finish_narrow(task, row, first, sums.total[half], sums.high[half]);
  }
}

// While rows pass over a panel they ask for the next one, each for its share.
inline void prefetch_share(const PanelTask& task, int64_t panel, int64_t row, int64_t rows) {
  const uint8_t* const next = task.panel + (panel + 1) * task.panel_bytes;
  const int64_t end = task.panel_bytes * (row + rows) / task.rows;
  for (int64_t at = task.panel_bytes * row / task.rows; at < end; at += 64)
    _mm_prefetch(reinterpret_cast<const char*>(next + at), _MM_HINT_T1);
}

template <int rows>
[[gnu::always_inline]] inline void start_sums(RowSums* sums) {
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) sums[m].total[half] = sums[m].high[half] = _mm256_setzero_si256();
}

template <typename Kind, int rows>
inline void unpacked_tile(const PanelTask& task, int64_t panel, int64_t row, const Segment& segment,
                          int64_t group, UnpackedWork& work) {
  const int16_t* x[rows];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) x[m] = x_words(task, row + m) + segment.first * kColumnBlock;
  RowSums* const sums = work.sums + row;
  if (segment.first == 0) {
    prefetch_share(task, panel, row, rows);
    start_sums<rows>(sums);
  }
  if constexpr (Kind::factor_blocks > 0)
    add_scaled_groups<Kind, rows>(segment, group, x, sums);
  else
    add_groups<rows>(segment, group, x, sums);
  if (segment.first + segment.blocks == task.blocks)
    for (int m = 0; m < rows; ++m) finish_row<Kind>(task, row + m, panel, sums[m]);
}

// `norms`: of all activation rows. All tiles have groups of one length: taking a length tile by tile was measured slower than
// groups half as long for all.
template <typename Kind>
inline void unpacked_panel(const PanelTask& task, int64_t panel, Norms norms, UnpackedWork& work) {
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t first = 0; first < task.blocks; first += kSegmentBlocks) {
    Segment segment = {.first = first,
                       .blocks = task.blocks - first < kSegmentBlocks ? task.blocks - first : kSegmentBlocks,
                       .weights = work.memory.weights,
                       .factors = work.memory.factors,
                       .norms = {}};
    Kind::unpack(task, w + first * Kind::block_bytes, segment, work.memory);
    const int64_t group = Kind::group(segment.norms, norms);
    int64_t row = 0;
    for (; task.rows - row >= 4; row += 4) unpacked_tile<Kind, 4>(task, panel, row, segment, group, work);
    for (; task.rows - row >= 2; row += 2) unpacked_tile<Kind, 2>(task, panel, row, segment, group, work);
    if (task.rows - row >= 1) unpacked_tile<Kind, 1>(task, panel, row, segment, group, work);
  }
}

// Whether unpacking costs less than it saves, and the sums hold.
template <typename Kind>
inline bool unpack_pays(const PanelTask& task) {
  return task.rows >= Kind::rows_min && task.rows <= kUnpackedRowsMax && task.blocks <= kUnpackedBlocksMax;
}

inline Norms largest_norms(const PanelTask& task) {
  Norms norms = {0, 0};
  for (int64_t row = 0; row < task.rows; ++row) {
    const auto* header = reinterpret_cast<const ActivationHeader*>(task.x + row * task.x_stride);
    norms.of_16 = header->norm_16 > norms.of_16 ? header->norm_16 : norms.of_16;
    norms.of_64 = header->norm_64 > norms.of_64 ? header->norm_64 : norms.of_64;
  }
  return norms;
}

template <typename Kind>
inline void unpacked_panels(const PanelTask& task) {
  const Norms norms = largest_norms(task);
  for (int64_t panel = 0; panel < task.panels; ++panel)
    unpacked_panel<Kind>(task, panel, norms, *reinterpret_cast<UnpackedWork*>(task.work));
}
