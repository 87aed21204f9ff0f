// Products of many rows, for AVX2: a panel is unpacked once to whole int16 weights, which all rows then multiply. Included by
// kernels_avx2.cpp.
//
// Weights and activations have 15 bits each, so a sum of a few columns fits int32 and that of a row does not. After every group
// of columns the upper half of the sum moves to a second one: S = 2^16 high + low, where low is at most 65535 then, and high
// fits int32 as S / 2^16 does (|S| <= 16256 sum|W| < 2^38: integer_weights.h).
//
// A group's sum, and 65535, must fit int32, by |sum| <= |W| |x| (the Euclidean norms over its columns). Eight columns always
// do: |W| is at most 16392 and 8 * 16392 * 16256 + 65535 < 2^31. More do where the largest norms of 16 and of 64 columns allow
// it, and they nearly always do: a row's largest value stands alone.

constexpr int64_t kUnpackedRowsMin = 32;  // from how many rows on unpacking costs less than it saves
constexpr int64_t kUnpackedRowsMax = 96;  // that pass over one unpacked segment
constexpr int64_t kSegmentBlocks = 48;    // 48 KB
constexpr int64_t kUnpackedBlock = 32 * kPanelRows;  // int16

struct UnpackedWork {
  alignas(64) int16_t weights[kSegmentBlocks * kUnpackedBlock];  // as of word blocks
  __m256i sums[kUnpackedRowsMax][4];                             // low, low, high, high
};

inline __m256i join_words(__m256i low, __m256i high) { return _mm256_blend_epi16(low, high, 0xAA); }
inline __m256i twice_low(__m256i v) { return join_words(v, _mm256_slli_epi32(v, 16)); }
inline __m256i twice_high(__m256i v) { return join_words(_mm256_srli_epi32(v, 16), v); }

// Sums of squares of eight weight rows: a quarter of them over 16 columns, a 64th over 64.
struct Squares {
  __m256i sum_16, sum_64, largest_16, largest_64;
};

// Two pairs of columns: `even` holds q of columns 0 and 2 of four, `odd` those of columns 1 and 3. W fits int16, so it is
// computed modulo 2^16.
[[gnu::always_inline]] inline void put_weights(__m256i even, __m256i odd, __m256i e, __m256i f, int16_t* out,
                                               Squares& squares) {
  even = _mm256_add_epi16(_mm256_mullo_epi16(even, e), f);
  odd = _mm256_add_epi16(_mm256_mullo_epi16(odd, e), f);
  const __m256i first = join_words(even, _mm256_slli_epi32(odd, 16)),
                second = join_words(_mm256_srli_epi32(even, 16), odd);
  _mm256_store_si256(reinterpret_cast<__m256i*>(out), first);
  _mm256_store_si256(reinterpret_cast<__m256i*>(out + 2 * kPanelRows), second);
  const __m256i square = _mm256_add_epi32(_mm256_madd_epi16(first, first), _mm256_madd_epi16(second, second));
  squares.sum_16 = _mm256_add_epi32(squares.sum_16, _mm256_srli_epi32(square, 2));
}

inline void end_16(Squares& squares) {
  squares.largest_16 = _mm256_max_epi32(squares.largest_16, squares.sum_16);
  squares.sum_64 = _mm256_add_epi32(squares.sum_64, _mm256_srli_epi32(squares.sum_16, 4));
  squares.largest_64 = _mm256_max_epi32(squares.largest_64, squares.sum_64);
  squares.sum_16 = _mm256_setzero_si256();
}

struct Nibbles {
  static constexpr int64_t block_bytes = kNibbleBlockBytes;

  // Eight rows of a block.
  static void unpack(const uint8_t* block, int half, int16_t* out, Squares& squares) {
    const __m256i nibble = _mm256_set1_epi16(15), ef = load32(block + 256 + 32 * half);
    const __m256i e = twice_low(ef), f = _mm256_sub_epi16(twice_high(ef), _mm256_slli_epi16(e, 3));
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m256i q = load32(block + 64 * j + 32 * half);
      put_weights(_mm256_and_si256(q, nibble), _mm256_and_si256(_mm256_srli_epi16(q, 8), nibble), e, f,
                  out + 4 * j * kPanelRows, squares);
    }
    end_16(squares);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m256i q = load32(block + 64 * j + 32 * half);
      put_weights(_mm256_and_si256(_mm256_srli_epi16(q, 4), nibble), _mm256_srli_epi16(q, 12), e, f,
                  out + (16 + 4 * j) * kPanelRows, squares);
    }
    end_16(squares);
  }
};

struct Fives {
  static constexpr int64_t block_bytes = kFiveBlockBytes;

  template <int upper, int j>
  static void columns(const uint8_t* block, int half, __m256i e, __m256i f, int16_t* out, Squares& squares) {
    __m256i nibbles = load32(block + 64 * j + 32 * half);
    if (upper == 1) nibbles = _mm256_srli_epi16(nibbles, 4);
    const __m256i q = join_bits<4 * upper + j, 0x10>(nibbles, load32(block + 256 + 32 * half));
    put_weights(_mm256_and_si256(q, _mm256_set1_epi16(255)), _mm256_srli_epi16(q, 8), e, f,
                out + (16 * upper + 4 * j) * kPanelRows, squares);
  }

  template <int upper>
  static void columns_16(const uint8_t* block, int half, __m256i e, __m256i f, int16_t* out,
                         Squares& squares) {
    columns<upper, 0>(block, half, e, f, out, squares), columns<upper, 1>(block, half, e, f, out, squares);
    columns<upper, 2>(block, half, e, f, out, squares), columns<upper, 3>(block, half, e, f, out, squares);
    end_16(squares);
  }

  static void unpack(const uint8_t* block, int half, int16_t* out, Squares& squares) {
    const __m256i ef = load32(block + 320 + 32 * half), e = twice_low(ef);
    const __m256i f = _mm256_sub_epi16(twice_high(ef), _mm256_slli_epi16(e, 4));
    columns_16<0>(block, half, e, f, out, squares);
    columns_16<1>(block, half, e, f, out, squares);
  }
};

// The largest norms of 16 and of 64 columns, rounded up.
struct Norms {
  float of_16, of_64;
};

// sqrt(unit * (the largest lane + 16)), rounded up: what shifts cut off is less than 16.
inline float norm_of(__m256i a, __m256i b, float unit) {
  alignas(32) int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), _mm256_max_epi32(a, b));
  int32_t largest = 0;
  for (const int32_t lane : lanes) largest = lane > largest ? lane : largest;
  return __builtin_sqrtf(unit * (static_cast<float>(largest) + 16)) * 1.0001f;
}

// `blocks` blocks of a panel into `out`.
template <typename Kind>
inline Norms unpack_segment(const PanelTask& task, const uint8_t* block, int64_t blocks, int16_t* out) {
  Squares squares[2] = {};
  for (int64_t b = 0; b < blocks; ++b, block += Kind::block_bytes, out += kUnpackedBlock) {
    prefetch_block<Kind::block_bytes>(block + task.panel_bytes);
    if (b % 2 == 0) squares[0].sum_64 = squares[1].sum_64 = _mm256_setzero_si256();
    Kind::unpack(block, 0, out, squares[0]);
    Kind::unpack(block, 1, out + kPanelRows, squares[1]);
  }
  return {norm_of(squares[0].largest_16, squares[1].largest_16, 4),
          norm_of(squares[0].largest_64, squares[1].largest_64, 64)};
}

// The columns of a group: what of 8, 16 ... 256 is sure to fit.
inline int64_t group_columns(Norms w, Norms x) {
  constexpr float kLimit = 0x1.fffp30f;
  const float of_16 = w.of_16 * x.of_16, of_64 = w.of_64 * x.of_64;
  if (of_64 < kLimit) return of_64 < kLimit / 4 ? 256 : of_64 < kLimit / 2 ? 128 : 64;
  return of_16 < kLimit / 2 ? 32 : of_16 < kLimit ? 16 : 8;
}

template <int rows>
inline void multiply_unpacked(const int16_t* w, int64_t columns, int64_t group,
                              const int16_t* const (&x)[rows], __m256i (*sums)[4]) {
  __m256i low[rows][2];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) low[m][0] = sums[m][0], low[m][1] = sums[m][1];
  for (int64_t k = 0; k < columns;) {
    const int64_t end = k + group < columns ? k + group : columns;
    do {
#pragma GCC unroll 4
      for (int pair = 0; pair < 4; ++pair, k += 2, w += 2 * kPanelRows) {
        const __m256i q[2] = {load32(w), load32(w + kPanelRows)};
#pragma GCC unroll 8
        for (int m = 0; m < rows; ++m) {
          const __m256i v = broadcast4(x[m] + k);
#pragma GCC unroll 2
          for (int half = 0; half < 2; ++half) {
            low[m][half] = _mm256_add_epi32(low[m][half], _mm256_madd_epi16(q[half], v));
            keep_here(low[m][half]);
          }
        }
      }
    } while (k < end);
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        __m256i& high = sums[m][2 + half];
        high = _mm256_add_epi32(high, _mm256_srai_epi32(low[m][half], 16));
        low[m][half] = _mm256_and_si256(low[m][half], _mm256_set1_epi32(0xFFFF));
      }
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) sums[m][0] = low[m][0], sums[m][1] = low[m][1];
}

template <int rows>
inline void unpacked_tile(const PanelTask& task, int64_t row, int64_t first, int64_t blocks, Norms w_norms,
                          UnpackedWork& work) {
  const int16_t* x[rows];
  Norms norms = {0, 0};
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    const auto* header = reinterpret_cast<const ActivationHeader*>(task.x + (row + m) * task.x_stride);
    x[m] = x_words(task, row + m) + first * kColumnBlock;
    norms.of_16 = header->norm_16 > norms.of_16 ? header->norm_16 : norms.of_16;
    norms.of_64 = header->norm_64 > norms.of_64 ? header->norm_64 : norms.of_64;
  }
  multiply_unpacked<rows>(work.weights, blocks * kColumnBlock, group_columns(w_norms, norms), x,
                          work.sums + row);
}

inline void finish_unpacked(const PanelTask& task, int64_t row, int64_t first, __m256i low, __m256i high) {
  const auto join = [](__m128i h, __m128i l) {
    return _mm256_fmadd_pd(_mm256_cvtepi32_pd(h), _mm256_set1_pd(65536), _mm256_cvtepi32_pd(l));
  };
  finish(task, row, first, join(_mm256_castsi256_si128(high), _mm256_castsi256_si128(low)),
         join(_mm256_extracti128_si256(high, 1), _mm256_extracti128_si256(low, 1)));
}

template <typename Kind>
inline void unpacked_panel(const PanelTask& task, int64_t panel, UnpackedWork& work) {
  __builtin_memset(work.sums, 0, static_cast<size_t>(task.rows) * sizeof work.sums[0]);
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t first = 0; first < task.blocks; first += kSegmentBlocks) {
    const int64_t blocks = task.blocks - first < kSegmentBlocks ? task.blocks - first : kSegmentBlocks;
    const Norms norms = unpack_segment<Kind>(task, w + first * Kind::block_bytes, blocks, work.weights);
    int64_t row = 0;
    for (; task.rows - row >= 4; row += 4) unpacked_tile<4>(task, row, first, blocks, norms, work);
    for (; task.rows - row >= 2; row += 2) unpacked_tile<2>(task, row, first, blocks, norms, work);
    if (task.rows - row >= 1) unpacked_tile<1>(task, row, first, blocks, norms, work);
  }
  for (int64_t row = 0; row < task.rows; ++row)
    for (int half = 0; half < 2; ++half)
      finish_unpacked(task, row, panel * kPanelRows + 8 * half, work.sums[row][half],
                      work.sums[row][2 + half]);
}

// Whether it is worth it, and the sums hold.
inline bool unpack_pays(const PanelTask& task) {
  return task.rows >= kUnpackedRowsMin && task.rows <= kUnpackedRowsMax;
}

template <typename Kind>
inline void unpacked_panels(const PanelTask& task) {
  for (int64_t panel = 0; panel < task.panels; ++panel)
    unpacked_panel<Kind>(task, panel, *reinterpret_cast<UnpackedWork*>(task.work));
}
