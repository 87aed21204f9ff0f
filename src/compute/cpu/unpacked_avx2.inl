// Products of many rows, for AVX2: a segment of a panel is unpacked once to whole int16 weights (unpack_avx2.inl), which all rows
// then multiply: one vpmaddwd and one addition for two columns of eight weight rows. Included by kernels_avx2.cpp.
//
// A group of columns is summed in int32. Where weights have no float factor, the sum of a row is kept in two int32: `high` is the
// sum of the groups' upper halves (it fits as S / 2^16 does: |S| <= 16256 sum|W| < 2^38, of words 2^31 a run: integer_weights.h),
// `total` that of the groups modulo 2^32. So S = 2^16 high + low, where low is total - 2^16 high: the groups' lower halves, which
// fit int32 for fewer than 2^15 groups. With float factors, which are integers of 18 bits, the groups' sums times their factors are
// summed in int64 (|S| < 2^53).

constexpr int64_t kUnpackedRowsMax = 384;        // that pass over one unpacked segment
constexpr int64_t kUnpackedBlocksMax = 1 << 11;  // 2^13 groups of eight columns, 2^9 runs of words

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
  alignas(32) float norms[kUnpackedBlocksMax];  // of each block, of the activation row where it is largest
  float norm_16;                                // of 16 columns
};

// Where the groups of columns of a segment end.
struct Groups {
  int64_t count = 0;
  int16_t ends[kSegmentBlocks * 4];  // groups of eight columns at least

  void add(int64_t end) { ends[count++] = static_cast<int16_t>(end); }
};

constexpr float kGroupLimit = 0x1.fffp30f;  // of what a group's sum can be

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

// Groups as long as their sums are sure to fit, by |sum| <= |W| |x|, and within the columns that share a factor. Eight columns
// always fit: |W| is at most 16392 and 8 * 16392 * 16256 < 2^31. With factors a block fits.
template <typename Kind>
inline void make_groups(const Segment& segment, const UnpackedWork& work, Groups& groups) {
  const int64_t columns = segment.blocks * kColumnBlock;
  if constexpr (!Kind::has_norms) {
    constexpr int64_t group = Kind::factor_blocks > 0 ? kColumnBlock : kWordRun;
    for (int64_t k = group; k < columns; k += group) groups.add(k);
    groups.add(columns);
  } else {
    int64_t first = 0;  // of the columns that have no group yet, before k
    float sum = 0;      // of theirs, at most
    for (int64_t b = 0; b < segment.blocks; ++b) {
      const int64_t k = b * kColumnBlock;
      const float most = segment.norms[b] * work.norms[segment.first + b];
      const bool other_factor = Kind::factor_blocks > 0 && b % Kind::factor_blocks == 0;
      if (first < k && (sum + most >= kGroupLimit || other_factor)) groups.add(k), first = k, sum = 0;
      sum += most;
      if (Kind::factor_blocks > 0 || most < kGroupLimit) continue;
      const int64_t few = segment.norms[b] * work.norm_16 < kGroupLimit ? 16 : 8;
      for (int64_t i = few; i <= kColumnBlock; i += few) groups.add(k + i);
      first = k + kColumnBlock, sum = 0;
    }
    if (first < columns) groups.add(columns);
  }
}

template <int rows>
inline void add_groups(const int16_t* weights, const Groups& groups, const int16_t* const (&x)[rows],
                       RowSums* out) {
  for (int64_t g = 0, k = 0; g < groups.count; k = groups.ends[g++]) {
    __m256i sum[rows][2];
    sum_group<rows>(weights, x, k, groups.ends[g], sum);
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
inline void add_scaled_groups(const int16_t* weights, const int32_t* factors, const Groups& groups,
                              const int16_t* const (&x)[rows], RowSums* out) {
  for (int64_t g = 0, k = 0; g < groups.count; k = groups.ends[g++]) {
    __m256i sum[rows][2];
    sum_group<rows>(weights, x, k, groups.ends[g], sum);
    const int32_t* e = factors + k / (Kind::factor_blocks * kColumnBlock) * kFactors;
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) add_scaled(sum[m][half], e + 16 * half, out[m].wide[half]);
  }
}

// S = 2^16 h + l with 0 <= l < 2^16: both are exact in float32 (|S| < 2^40), so the sum is rounded once.
inline void finish_narrow(const PanelTask& task, int64_t row, int64_t first, __m256i total, __m256i high) {
  const __m256i low = _mm256_sub_epi32(total, _mm256_slli_epi32(high, 16));
  const __m256i h = _mm256_add_epi32(high, _mm256_srai_epi32(low, 16));
  const __m256i l = _mm256_and_si256(low, _mm256_set1_epi32(0xFFFF));
  finish(task, row, first,
         _mm256_fmadd_ps(_mm256_cvtepi32_ps(h), _mm256_set1_ps(65536), _mm256_cvtepi32_ps(l)));
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

// Asks for the panel that is computed next, a share at a time while rows pass over this one.
struct Ahead {
  const uint8_t *at, *end;
  int64_t share;

  Ahead(const uint8_t* panel, int64_t bytes, int64_t shares)
      : at(panel), end(panel + bytes), share((bytes / shares + 64) / 64 * 64) {}
  void ask() {
    const uint8_t* const stop = end - at < share ? end : at + share;
    for (; at < stop; at += 64) _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T1);
  }
};

// A segment on its way through the rows of a panel.
struct Pass {
  int64_t panel;
  const Segment* segment;
  const int32_t* factors;
  const Groups* groups;
  RowSums* sums;  // of row 0
  bool first, last;
  Ahead* ahead;
};

// Rows [row, row + rows). A row has sums of its own only where there is more than one segment.
template <typename Kind, int rows>
inline void unpacked_tile(const PanelTask& task, int64_t row, const Pass& pass) {
  RowSums* const sums = pass.sums + (pass.first && pass.last ? 0 : row);
  const int16_t* x[rows];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    x[m] = x_words(task, row + m) + pass.segment->first * kColumnBlock;
    if (pass.last) __builtin_prefetch(task.out + (row + m) * task.out_stride + pass.panel * kPanelRows, 1);
    if (pass.first)
      for (int half = 0; half < 2; ++half) sums[m].total[half] = sums[m].high[half] = _mm256_setzero_si256();
  }
  pass.ahead->ask();
  if constexpr (Kind::factor_blocks > 0)
    add_scaled_groups<Kind, rows>(pass.segment->weights, pass.factors, *pass.groups, x, sums);
  else
    add_groups<rows>(pass.segment->weights, *pass.groups, x, sums);
  if (pass.last)
    for (int m = 0; m < rows; ++m) finish_row<Kind>(task, row + m, pass.panel, sums[m]);
}

template <typename Kind>
inline void unpacked_panel(const PanelTask& task, int64_t panel, UnpackedWork& work) {
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  Ahead ahead(w + task.panel_bytes, task.panel_bytes, task.rows / 4 + 1);
  for (int64_t first = 0; first < task.blocks; first += kSegmentBlocks) {
    Segment segment;
    segment.first = first;
    segment.blocks = task.blocks - first < kSegmentBlocks ? task.blocks - first : kSegmentBlocks;
    Kind::unpack(task, w + first * Kind::block_bytes, segment, work.memory.weights, work.memory.factors);
    Groups groups;
    make_groups<Kind>(segment, work, groups);
    const Pass pass = {.panel = panel,
                       .segment = &segment,
                       .factors = work.memory.factors,
                       .groups = &groups,
                       .sums = work.sums,
                       .first = first == 0,
                       .last = first + segment.blocks == task.blocks,
                       .ahead = &ahead};
    int64_t row = 0;
    for (; task.rows - row >= 4; row += 4) unpacked_tile<Kind, 4>(task, row, pass);
    for (; task.rows - row >= 2; row += 2) unpacked_tile<Kind, 2>(task, row, pass);
    if (task.rows - row >= 1) unpacked_tile<Kind, 1>(task, row, pass);
  }
}

// Whether unpacking costs less than it saves, and the sums hold.
template <typename Kind>
inline bool unpack_pays(const PanelTask& task) {
  return task.rows >= Kind::rows_min && task.rows <= kUnpackedRowsMax && task.blocks <= kUnpackedBlocksMax;
}

// The largest norms of the activation rows.
inline void take_norms(const PanelTask& task, UnpackedWork& work) {
  const int64_t blocks = task.blocks;
  for (int64_t b = 0; b < blocks; ++b) work.norms[b] = 0;
  work.norm_16 = 0;
  for (int64_t row = 0; row < task.rows; ++row) {
    const auto* header = reinterpret_cast<const ActivationHeader*>(task.x + row * task.x_stride);
    const auto* squares = reinterpret_cast<const float*>(x_words(task, row) + blocks * kColumnBlock);
    work.norm_16 = header->norm_16 > work.norm_16 ? header->norm_16 : work.norm_16;
    for (int64_t b = 0; b < blocks; ++b)
      work.norms[b] = squares[b] > work.norms[b] ? squares[b] : work.norms[b];
  }
  for (int64_t b = 0; b < blocks; ++b) work.norms[b] = norm_of_squares(work.norms[b]);
}

template <typename Kind>
inline void unpacked_panels(const PanelTask& task) {
  auto& work = *reinterpret_cast<UnpackedWork*>(task.work);
  take_norms(task, work);
  for (int64_t panel = 0; panel < task.panels; ++panel) unpacked_panel<Kind>(task, panel, work);
}
