// Weights of each kind as whole int16, for AVX2: included by kernels_avx2.cpp. A block of 32 columns becomes a word block
// (kernels.h): pairs of columns, of 16 rows each.
//
// A kind's sum of `group()` columns fits int32, times activations of the given norms. Where the kind has a float factor e, that is
// the sum of W / e, and a group lies within the columns that share an e. `rows_min`: from how many rows on unpacking was measured to pay.

constexpr int64_t kSegmentBlocks = 24;  // that are unpacked at once: 24 KB, which stay in the L1 cache
constexpr int64_t kUnpackedBlock = 32 * kPanelRows;  // int16
constexpr int64_t kFactors = 32;  // of each eight rows: all, then those of the odd rows in the even places

// The largest Euclidean norms of 16 and of 64 columns, rounded up.
struct Norms {
  float of_16, of_64;
};

// `blocks` blocks of a panel, from block `first` on.
struct Segment {
  int64_t first, blocks;
  const int16_t* weights;
  const int32_t* factors;  // kFactors of each block or, of six blocks, each run
  Norms norms;
};

struct UnpackedMemory {
  alignas(64) int16_t weights[kSegmentBlocks * kUnpackedBlock];
  alignas(64) int32_t factors[kSegmentBlocks * kFactors];
};

inline __m256i join_words(__m256i low, __m256i high) { return _mm256_blend_epi16(low, high, 0xAA); }
inline __m256i twice_low(__m256i v) { return join_words(v, _mm256_slli_epi32(v, 16)); }
inline __m256i twice_high(__m256i v) { return join_words(_mm256_srli_epi32(v, 16), v); }

// Sums of squares of eight weight rows: a quarter of them over 16 columns, a 64th over 64.
struct Squares {
  __m256i sum_16, sum_64, largest_16, largest_64;
};

inline void end_16(Squares& squares) {
  squares.largest_16 = _mm256_max_epi32(squares.largest_16, squares.sum_16);
  squares.sum_64 = _mm256_add_epi32(squares.sum_64, _mm256_srli_epi32(squares.sum_16, 4));
  squares.largest_64 = _mm256_max_epi32(squares.largest_64, squares.sum_64);
  squares.sum_16 = _mm256_setzero_si256();
}

// Two pairs of columns of eight rows.
struct Pairs {
  __m256i first, second;
};

// `even` holds the values of columns 0 and 2 of four, `odd` those of columns 1 and 3.
[[gnu::always_inline]] inline Pairs put_pairs(__m256i even, __m256i odd, int16_t* out) {
  const Pairs pairs = {join_words(even, _mm256_slli_epi32(odd, 16)),
                       join_words(_mm256_srli_epi32(even, 16), odd)};
  _mm256_store_si256(reinterpret_cast<__m256i*>(out), pairs.first);
  _mm256_store_si256(reinterpret_cast<__m256i*>(out + 2 * kPanelRows), pairs.second);
  return pairs;
}

inline void add_squares(const Pairs& pairs, Squares& squares) {
  const __m256i square = _mm256_add_epi32(_mm256_madd_epi16(pairs.first, pairs.first),
                                          _mm256_madd_epi16(pairs.second, pairs.second));
  squares.sum_16 = _mm256_add_epi32(squares.sum_16, _mm256_srli_epi32(square, 2));
}

// q e + f, which fits int16, so it is computed modulo 2^16.
[[gnu::always_inline]] inline void put_weights(__m256i even, __m256i odd, __m256i e, __m256i f, int16_t* out,
                                               Squares& squares) {
  even = _mm256_add_epi16(_mm256_mullo_epi16(even, e), f);
  odd = _mm256_add_epi16(_mm256_mullo_epi16(odd, e), f);
  add_squares(put_pairs(even, odd, out), squares);
}
// sqrt(unit * (the largest lane + 16)), rounded up: what shifts cut off is less than 16.
inline float norm_of(__m256i a, __m256i b, float unit) {
  alignas(32) int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), _mm256_max_epi32(a, b));
  int32_t largest = 0;
  for (const int32_t lane : lanes) largest = lane > largest ? lane : largest;
  return __builtin_sqrtf(unit * (static_cast<float>(largest) + 16)) * 1.0001f;
}

// The squares of both halves of a panel.
struct PanelSquares {
  Squares halves[2] = {};

  void start_block(int64_t block) {
    if (block % 2 == 0) halves[0].sum_64 = halves[1].sum_64 = _mm256_setzero_si256();
  }
  Norms norms() const {
    return {norm_of(halves[0].largest_16, halves[1].largest_16, 4),
            norm_of(halves[0].largest_64, halves[1].largest_64, 64)};
  }
};

// The columns of a group: what of 8, 16 ... 256 is sure to fit, by |sum| <= |W| |x|. Eight always do: |W| is at most 16392 and
// 8 * 16392 * 16256 < 2^31. More do where the largest norms allow it, and they nearly always do: a row's largest value stands
// alone.
inline int64_t group_columns(Norms w, Norms x) {
  constexpr float kLimit = 0x1.fffp30f;
  const float of_16 = w.of_16 * x.of_16, of_64 = w.of_64 * x.of_64;
  if (of_64 < kLimit) return of_64 < kLimit / 4 ? 256 : of_64 < kLimit / 2 ? 128 : 64;
  return of_16 < kLimit / 2 ? 32 : of_16 < kLimit ? 16 : 8;
}

// Nibbles and fives: W itself.
template <typename Kind>
struct WithoutFactors {
  static void unpack(const PanelTask&, const uint8_t* block, Segment& segment, UnpackedMemory& memory) {
    PanelSquares squares;
    int16_t* out = memory.weights;
    for (int64_t b = 0; b < segment.blocks; ++b, block += Kind::block_bytes, out += kUnpackedBlock) {
      squares.start_block(b);
      Kind::unpack_half(block, 0, out, squares.halves[0]);
      Kind::unpack_half(block, 1, out + kPanelRows, squares.halves[1]);
    }
    segment.norms = squares.norms();
  }
  static int64_t group(Norms w, Norms x) { return group_columns(w, x); }
};

struct Nibbles : WithoutFactors<Nibbles> {
  static constexpr int64_t block_bytes = kNibbleBlockBytes, rows_min = 20, factor_blocks = 0;

  // Eight rows of a block.
  static void unpack_half(const uint8_t* block, int half, int16_t* out, Squares& squares) {
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

struct Fives : WithoutFactors<Fives> {
  static constexpr int64_t block_bytes = kFiveBlockBytes, rows_min = 12, factor_blocks = 0;

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

  static void unpack_half(const uint8_t* block, int half, int16_t* out, Squares& squares) {
    const __m256i ef = load32(block + 320 + 32 * half), e = twice_low(ef);
    const __m256i f = _mm256_sub_epi16(twice_high(ef), _mm256_slli_epi16(e, 4));
    columns_16<0>(block, half, e, f, out, squares);
    columns_16<1>(block, half, e, f, out, squares);
  }
};

// 32 bytes: eight rows of four columns each.
inline void put_bytes(__m256i bytes, int16_t* out) {
  put_pairs(_mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), _mm256_srai_epi16(bytes, 8), out);
}

// `floats` are integers.
inline void put_factors(const uint8_t* floats, int32_t* out) {
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const __m256i e = _mm256_cvtps_epi32(_mm256_loadu_ps(reinterpret_cast<const float*>(floats) + 8 * half));
    auto* const to = reinterpret_cast<__m256i*>(out + 16 * half);
    _mm256_store_si256(to, e), _mm256_store_si256(to + 1, _mm256_srli_epi64(e, 32));
  }
}

// Bytes and codebooks: a factor a block.
template <typename Kind>
struct WithFactors {
  static void unpack(const PanelTask& task, const uint8_t* block, Segment& segment, UnpackedMemory& memory) {
    for (int64_t b = 0; b < segment.blocks; ++b, block += Kind::block_bytes) {
      Kind::unpack_block(task, block, memory.weights + b * kUnpackedBlock);
      put_factors(block + Kind::factors_at, memory.factors + b * kFactors);
    }
  }
  static int64_t group(Norms, Norms) { return kColumnBlock; }
};

struct Bytes : WithFactors<Bytes> {
  static constexpr int64_t block_bytes = kByteBlockBytes, rows_min = 16, factors_at = 512, factor_blocks = 1;

  static void unpack_block(const PanelTask&, const uint8_t* block, int16_t* out) {
    const __m256i zero_point = _mm256_set1_epi8(static_cast<char>(128));
#pragma GCC unroll 8
    for (int j = 0; j < 16; ++j)
      put_bytes(_mm256_xor_si256(load32(block + 32 * j), zero_point),
                out + j / 2 * 4 * kPanelRows + j % 2 * kPanelRows);
  }
};

struct Codes : WithFactors<Codes> {
  static constexpr int64_t block_bytes = kCodeBlockBytes, rows_min = 8, factors_at = 256, factor_blocks = 1;

  static void unpack_block(const PanelTask& task, const uint8_t* block, int16_t* out) {
    const __m256i mask = _mm256_set1_epi8(15);
    const __m256i values =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(task.codebook)));
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const __m256i q = load32(block + 32 * j);
      int16_t* const low = out + j / 2 * 4 * kPanelRows + j % 2 * kPanelRows;
      put_bytes(_mm256_shuffle_epi8(values, _mm256_and_si256(q, mask)), low);
      put_bytes(_mm256_shuffle_epi8(values, _mm256_and_si256(_mm256_srli_epi16(q, 4), mask)),
                low + 16 * kPanelRows);
    }
  }
};

// s (q - 32), of 13 bits: 32 columns fit int32 (2^12 * 16256 * 32 < 2^31), and where the norms allow it all 256 with one e.
struct Sixes {
  static constexpr int64_t block_bytes = kSixBlockBytes, rows_min = 12, factor_blocks = kSixBlocks;

  template <int upper, int j>
  static void columns(const uint8_t* block, int half, __m256i s, int16_t* out, Squares& squares) {
    __m256i nibbles = load32(block + 64 * j + 32 * half);
    if (upper == 1) nibbles = _mm256_srli_epi16(nibbles, 4);
    const __m256i q = join_bits<2 * j, 0x30>(nibbles, load32(block + 256 + 64 * upper + 32 * half));
    put_weights(_mm256_and_si256(q, _mm256_set1_epi16(255)), _mm256_srli_epi16(q, 8), s,
                _mm256_slli_epi16(_mm256_sub_epi16(_mm256_setzero_si256(), s), 5),
                out + (16 * upper + 4 * j) * kPanelRows, squares);
  }

  template <int upper>
  static void columns_16(const uint8_t* block, int half, __m256i s, int16_t* out, Squares& squares) {
    columns<upper, 0>(block, half, s, out, squares), columns<upper, 1>(block, half, s, out, squares);
    columns<upper, 2>(block, half, s, out, squares), columns<upper, 3>(block, half, s, out, squares);
    end_16(squares);
  }

  static void unpack(const PanelTask&, const uint8_t* run, Segment& segment, UnpackedMemory& memory) {
    PanelSquares squares;
    int16_t* out = memory.weights;
    for (int64_t b = 0; b < segment.blocks; ++b, out += kUnpackedBlock) {
      const uint8_t *block = run + b % kSixBlocks * kSixBits,
                    *scales = run + kSixScalesAt + b % kSixBlocks * 32;
      squares.start_block(b);
      for (int half = 0; half < 2; ++half) {
        const __m256i pairs =
            _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales + 16 * half)));
        columns_16<0>(block, half, twice_low(pairs), out + half * kPanelRows, squares.halves[half]);
        columns_16<1>(block, half, twice_high(pairs), out + half * kPanelRows, squares.halves[half]);
      }
      if (b % kSixBlocks == kSixBlocks - 1) {
        put_factors(run + kSixFactorsAt, memory.factors + b / kSixBlocks * kFactors);
        run += kSixBlocks * kSixBlockBytes;
      }
    }
    segment.norms = squares.norms();
  }
  static int64_t group(Norms w, Norms x) {
    const int64_t columns = group_columns(w, x);
    return columns < kColumnBlock ? kColumnBlock : columns;
  }
};

// Words stand unpacked in the panel, and kWordRun columns fit.
struct Words {
  static constexpr int64_t block_bytes = kWordBlockBytes, rows_min = 32, factor_blocks = 0;

  static void unpack(const PanelTask&, const uint8_t* block, Segment& segment, UnpackedMemory&) {
    segment.weights = reinterpret_cast<const int16_t*>(block);
  }
  static int64_t group(Norms, Norms) { return kWordRun; }
};
