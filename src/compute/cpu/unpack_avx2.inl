// Weights of each kind as whole int16, for AVX2: included by kernels_avx2.cpp. A block of 32 columns becomes a word block
// (kernels.h): pairs of columns, of 16 rows each.
//
// unpack() also gives, of each block, the largest norm of a weight row over its 32 columns, where groups of columns depend on it
// (`has_norms`); with a float factor e, of W / e. `rows_min`: from how many rows on unpacking was measured to pay.

constexpr int64_t kSegmentBlocks = 24;  // that are unpacked at once: 24 KB, which stay in the L1 cache
constexpr int64_t kUnpackedBlock = 32 * kPanelRows;  // int16
constexpr int64_t kFactors = 32;  // of each eight rows: all, then those of the odd rows in the even places

// `blocks` blocks of a panel, from block `first` on.
struct Segment {
  int64_t first, blocks;
  const int16_t* weights;
  float norms[kSegmentBlocks];
};

struct UnpackedMemory {
  alignas(64) int16_t weights[kSegmentBlocks * kUnpackedBlock];
  // kFactors of each block or, of six blocks, each run
  alignas(64) int32_t factors[kSegmentBlocks * kFactors];
};

inline __m256i join_words(__m256i low, __m256i high) { return _mm256_blend_epi16(low, high, 0xAA); }
inline __m256i twice_low(__m256i v) { return join_words(v, _mm256_slli_epi32(v, 16)); }
inline __m256i twice_high(__m256i v) { return join_words(_mm256_srli_epi32(v, 16), v); }

// Sums of squares of weights: an eighth of those of eight rows of a block.
struct Squares {
  __m256i sum;
};

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
  squares.sum = _mm256_add_epi32(squares.sum, _mm256_srli_epi32(square, 3));
}

// q e + f, which fits int16, so it is computed modulo 2^16.
[[gnu::always_inline]] inline void put_weights(__m256i even, __m256i odd, __m256i e, __m256i f, int16_t* out,
                                               Squares& squares) {
  even = _mm256_add_epi16(_mm256_mullo_epi16(even, e), f);
  odd = _mm256_add_epi16(_mm256_mullo_epi16(odd, e), f);
  add_squares(put_pairs(even, odd, out), squares);
}

// The norm of the row with the largest sum, rounded up: shifts have cut off less than 8 eighths.
inline float norm_of(const Squares (&halves)[2]) {
  const __m256i larger = _mm256_max_epi32(halves[0].sum, halves[1].sum);
  const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(larger), _mm256_extracti128_si256(larger, 1));
  const __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
  const __m128i one = _mm_max_epi32(two, _mm_shuffle_epi32(two, 1));
  return __builtin_sqrtf(8 * (static_cast<float>(_mm_cvtsi128_si32(one)) + 8)) * 1.0001f;
}

// Nibbles and fives: W itself.
template <typename Kind>
struct WithoutFactors {
  static constexpr int64_t factor_blocks = 0;
  static constexpr bool has_norms = true;

  static void unpack(const PanelTask&, const uint8_t* block, Segment& segment, int16_t* out, int32_t*) {
    segment.weights = out;
    for (int64_t b = 0; b < segment.blocks; ++b, block += Kind::block_bytes, out += kUnpackedBlock) {
      Squares halves[2] = {};
      Kind::unpack_half(block, 0, out, halves[0]);
      Kind::unpack_half(block, 1, out + kPanelRows, halves[1]);
      segment.norms[b] = norm_of(halves);
    }
  }
};

struct Nibbles : WithoutFactors<Nibbles> {
  static constexpr int64_t block_bytes = kNibbleBlockBytes, rows_min = 20;

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
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m256i q = load32(block + 64 * j + 32 * half);
      put_weights(_mm256_and_si256(_mm256_srli_epi16(q, 4), nibble), _mm256_srli_epi16(q, 12), e, f,
                  out + (16 + 4 * j) * kPanelRows, squares);
    }
  }
};

struct Fives : WithoutFactors<Fives> {
  static constexpr int64_t block_bytes = kFiveBlockBytes, rows_min = 12;

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
  static constexpr int64_t factor_blocks = 1;
  static constexpr bool has_norms = false;

  static void unpack(const PanelTask& task, const uint8_t* block, Segment& segment, int16_t* out,
                     int32_t* factors) {
    segment.weights = out;
    for (int64_t b = 0; b < segment.blocks; ++b, block += Kind::block_bytes) {
      Kind::unpack_block(task, block, out + b * kUnpackedBlock);
      put_factors(block + Kind::factors_at, factors + b * kFactors);
    }
  }
};

struct Bytes : WithFactors<Bytes> {
  static constexpr int64_t block_bytes = kByteBlockBytes, rows_min = 16, factors_at = 512;

  static void unpack_block(const PanelTask&, const uint8_t* block, int16_t* out) {
    const __m256i zero_point = _mm256_set1_epi8(static_cast<char>(128));
#pragma GCC unroll 8
    for (int j = 0; j < 16; ++j)
      put_bytes(_mm256_xor_si256(load32(block + 32 * j), zero_point),
                out + j / 2 * 4 * kPanelRows + j % 2 * kPanelRows);
  }
};

struct Codes : WithFactors<Codes> {
  static constexpr int64_t block_bytes = kCodeBlockBytes, rows_min = 8, factors_at = 256;

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
  static constexpr bool has_norms = true;

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
  }

  static void unpack(const PanelTask&, const uint8_t* run, Segment& segment, int16_t* out, int32_t* factors) {
    segment.weights = out;
    for (int64_t b = 0; b < segment.blocks; ++b, out += kUnpackedBlock) {
      const uint8_t *block = run + b % kSixBlocks * kSixBits,
                    *scales = run + kSixScalesAt + b % kSixBlocks * 32;
      Squares halves[2] = {};
      for (int half = 0; half < 2; ++half) {
        const __m256i pairs =
            _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales + 16 * half)));
        columns_16<0>(block, half, twice_low(pairs), out + half * kPanelRows, halves[half]);
        columns_16<1>(block, half, twice_high(pairs), out + half * kPanelRows, halves[half]);
      }
      segment.norms[b] = norm_of(halves);
      if (b % kSixBlocks == kSixBlocks - 1) {
        put_factors(run + kSixFactorsAt, factors + b / kSixBlocks * kFactors);
        run += kSixBlocks * kSixBlockBytes;
      }
    }
  }
};

// Words stand unpacked in the panel, and kWordRun columns fit.
struct Words {
  static constexpr int64_t block_bytes = kWordBlockBytes, rows_min = 32, factor_blocks = 0;
  static constexpr bool has_norms = false;

  static void unpack(const PanelTask&, const uint8_t* block, Segment& segment, int16_t*, int32_t*) {
    segment.weights = reinterpret_cast<const int16_t*>(block);
  }
};
