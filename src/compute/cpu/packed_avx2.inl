// Products with weights of five and six bits and with codebooks, for AVX2: included by kernels_avx2.cpp. A sum of four (five)
// or two (six) steps of vpmaddubsw fits int16; it is widened by vpmaddwd with ones.

// e or s as int32 from the lower half of a pair.
inline __m256i lower_half(__m256i pair) { return _mm256_srai_epi32(_mm256_slli_epi32(pair, 16), 16); }

// `nibbles` with the bits of `high` above them: one from bit `from` (five), two from there (six).
template <int from, int mask>
inline __m256i join_bits(__m256i nibbles, __m256i high) {
  constexpr int shift = 4 - from;
  __m256i moved = high;
  if constexpr (shift > 0) moved = _mm256_slli_epi16(high, shift);
  if constexpr (shift < 0) moved = _mm256_srli_epi16(high, -shift);
  return _mm256_or_si256(_mm256_and_si256(nibbles, _mm256_set1_epi8(15)),
                         _mm256_and_si256(moved, _mm256_set1_epi8(mask)));
}

// The sums of `rows` activation rows with both halves of a panel, of the h and l parts.
template <int rows>
struct Planes {
  __m256i h[rows][2], l[rows][2];
};

template <int rows>
[[gnu::always_inline]] inline void clear(Planes<rows>& planes) {
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
    planes.h[m][0] = planes.h[m][1] = planes.l[m][0] = planes.l[m][1] = _mm256_setzero_si256();
}

// Four columns into int16 sums: `q` of both halves of the panel.
template <int rows>
[[gnu::always_inline]] inline void add_columns(Planes<rows>& sum, __m256i q0, __m256i q1,
                                               const XBlock* const (&x)[rows], int64_t b, int column) {
  const auto step = [=](__m256i(&to)[2], const int8_t* part) {
    const __m256i v = broadcast4(part);
    to[0] = _mm256_add_epi16(to[0], _mm256_maddubs_epi16(q0, v));
    to[1] = _mm256_add_epi16(to[1], _mm256_maddubs_epi16(q1, v));
    keep_here(to[0]), keep_here(to[1]);
  };
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) step(sum.h[m], x[m][b].h + column), step(sum.l[m], x[m][b].l + column);
}

// total += the int16 sums as int32.
template <int rows>
[[gnu::always_inline]] inline void widen(Planes<rows>& total, const Planes<rows>& sum) {
  const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
    for (int side = 0; side < 2; ++side) {
      total.h[m][side] = _mm256_add_epi32(total.h[m][side], _mm256_madd_epi16(sum.h[m][side], ones));
      total.l[m][side] = _mm256_add_epi32(total.l[m][side], _mm256_madd_epi16(sum.l[m][side], ones));
    }
}

template <int half, int j, int bits, int rows>
[[gnu::always_inline]] inline void packed_columns(Planes<rows>& sum, const uint8_t* w, const uint8_t* high,
                                                  const XBlock* const (&x)[rows], int64_t b) {
  __m256i q[2];
#pragma GCC unroll 2
  for (int side = 0; side < 2; ++side) {
    __m256i nibbles = load32(w + 64 * j + 32 * side);
    if (half == 1) nibbles = _mm256_srli_epi16(nibbles, 4);
    const __m256i above = load32(high + 32 * side);
    q[side] =
        bits == 5 ? join_bits<4 * half + j, 0x10>(nibbles, above) : join_bits<2 * j, 0x30>(nibbles, above);
  }
  add_columns(sum, q[0], q[1], x, b, 16 * half + 4 * j);
}

// Sixteen columns of five bits: int16 sums of four steps (4 * 2 * 31 * 127 = 31496).
template <int half, int rows>
[[gnu::always_inline]] inline void five_half(Planes<rows>& total, const uint8_t* w,
                                             const XBlock* const (&x)[rows], int64_t b) {
  Planes<rows> sum;
  clear(sum);
  packed_columns<half, 0, 5>(sum, w, w + 256, x, b);
  packed_columns<half, 1, 5>(sum, w, w + 256, x, b);
  packed_columns<half, 2, 5>(sum, w, w + 256, x, b);
  packed_columns<half, 3, 5>(sum, w, w + 256, x, b);
  widen(total, sum);
}

template <int rows, bool first>
inline void five_tile(const PanelTask& task, int64_t row, int64_t panel) {
  const XBlock* x[rows];
  Planes<rows> total;
  clear(total);
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) x[m] = x_blocks(task, row + m);
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t b = 0; b < task.blocks; ++b, w += kFiveBlockBytes) {
    if (first) prefetch_block<kFiveBlockBytes>(w + task.panel_bytes);
    Planes<rows> sum;
    clear(sum);
    five_half<0>(sum, w, x, b);
    five_half<1>(sum, w, x, b);
#pragma GCC unroll 2
    for (int side = 0; side < 2; ++side) {
      const __m256i ef = load32(w + 320 + 32 * side), e = lower_half(ef);
      const auto add_sum = [&](__m256i& to, __m256i s, const int32_t* minus_8_sum, const int32_t* high_sum) {
        const __m256i centred = _mm256_add_epi32(s, _mm256_slli_epi32(broadcast4(minus_8_sum), 1));
        to = _mm256_add_epi32(to, _mm256_add_epi32(_mm256_mullo_epi32(centred, e),
                                                   _mm256_madd_epi16(broadcast4(high_sum), ef)));
      };
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m) {
        add_sum(total.h[m][side], sum.h[m][side], &x[m][b].minus_8h, &x[m][b].high_h);
        add_sum(total.l[m][side], sum.l[m][side], &x[m][b].minus_8l, &x[m][b].high_l);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
    for (int side = 0; side < 2; ++side)
      finish_planes(task, row + m, panel * kPanelRows + 8 * side, total.h[m][side], total.l[m][side]);
}

// Sixteen columns of six bits, times s, into `total`: int16 sums of two steps (2 * 2 * 63 * 127 = 32004).
template <int half, int rows>
[[gnu::always_inline]] inline void six_half(Planes<rows>& total, const uint8_t* w, const __m256i (&pairs)[2],
                                            const XBlock* const (&x)[rows], int64_t b) {
  const uint8_t* high = w + 256 + 64 * half;
  Planes<rows> wide, sum;
  clear(wide), clear(sum);
  packed_columns<half, 0, 6>(sum, w, high, x, b);
  packed_columns<half, 1, 6>(sum, w, high, x, b);
  widen(wide, sum), clear(sum);
  packed_columns<half, 2, 6>(sum, w, high, x, b);
  packed_columns<half, 3, 6>(sum, w, high, x, b);
  widen(wide, sum);
#pragma GCC unroll 2
  for (int side = 0; side < 2; ++side) {
    const __m256i s = half == 0 ? lower_half(pairs[side]) : _mm256_srai_epi32(pairs[side], 16);
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) {
      total.h[m][side] = _mm256_add_epi32(total.h[m][side], _mm256_mullo_epi32(wide.h[m][side], s));
      total.l[m][side] = _mm256_add_epi32(total.l[m][side], _mm256_mullo_epi32(wide.l[m][side], s));
    }
  }
}

// One block of 32 columns into the int32 sums of s (q - 32) x, which hold 256 columns (2^7 * 2^5 * 2^7 * 2^8).
template <int rows>
[[gnu::always_inline]] inline void six_block(Planes<rows>& total, const uint8_t* w, const uint8_t* scales,
                                             const XBlock* const (&x)[rows], int64_t b) {
  const auto widened = [=](int side) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales + 16 * side)));
  };
  const __m256i pairs[2] = {widened(0), widened(1)};
  six_half<0>(total, w, pairs, x, b);
  six_half<1>(total, w, pairs, x, b);
#pragma GCC unroll 2
  for (int side = 0; side < 2; ++side) {  // twice s by -16 sum(x): the zero point of both halves
    const __m256i twice = _mm256_slli_epi16(pairs[side], 1);
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) {
      total.h[m][side] =
          _mm256_add_epi32(total.h[m][side], _mm256_madd_epi16(broadcast4(x[m][b].minus_16h), twice));
      total.l[m][side] =
          _mm256_add_epi32(total.l[m][side], _mm256_madd_epi16(broadcast4(x[m][b].minus_16l), twice));
    }
  }
}

template <int rows, bool first>
inline void six_tile(const PanelTask& task, int64_t row, int64_t panel) {
  const XBlock* x[rows];
  __m256d total[rows][2][2];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    x[m] = x_blocks(task, row + m);
    for (auto& side : total[m]) side[0] = side[1] = _mm256_setzero_pd();
  }
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t run = 0; run < task.blocks; run += kSixBlocks, w += kSixBlocks * kSixBlockBytes) {
    Planes<rows> sum;
    clear(sum);
    for (int64_t b = 0; b < kSixBlocks; ++b) {
      if (first) prefetch_block<kSixBlockBytes>(w + task.panel_bytes + b * kSixBlockBytes);
      six_block(sum, w + b * kSixBits, w + kSixScalesAt + 32 * b, x, run + b);
    }
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
      for (int part = 0; part < 4; ++part) {
        const auto quarter = [=](__m256i v) {
          return _mm256_cvtepi32_pd(part % 2 == 0 ? _mm256_castsi256_si128(v)
                                                  : _mm256_extracti128_si256(v, 1));
        };
        const __m256d joined =
            _mm256_fmadd_pd(quarter(sum.h[m][part / 2]), _mm256_set1_pd(128), quarter(sum.l[m][part / 2]));
        const __m256d e =
            _mm256_cvtps_pd(_mm_loadu_ps(reinterpret_cast<const float*>(w + kSixFactorsAt) + 4 * part));
        total[m][part / 2][part % 2] = _mm256_fmadd_pd(joined, e, total[m][part / 2][part % 2]);
      }
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
    for (int side = 0; side < 2; ++side)
      finish(task, row + m, panel * kPanelRows + 8 * side, total[m][side][0], total[m][side][1]);
}

// Four columns of a codebook's values, widened to int16: four registers of four weight rows.
[[gnu::always_inline]] inline void code_columns(const uint8_t* w, __m256i values, int half, __m256i (&q)[4]) {
#pragma GCC unroll 2
  for (int side = 0; side < 2; ++side) {
    __m256i nibbles = load32(w + 32 * side);
    if (half == 1) nibbles = _mm256_srli_epi16(nibbles, 4);
    const __m256i bytes = _mm256_shuffle_epi8(values, _mm256_and_si256(nibbles, _mm256_set1_epi8(15)));
    q[2 * side] = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(bytes));
    q[2 * side + 1] = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(bytes, 1));
  }
}

// byte_tile, whose bytes come out of the codebook; they are signed, so there is no zero point.
template <int rows, bool first>
inline void code_tile(const PanelTask& task, int64_t row, int64_t panel) {
  const __m256i values =
      _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(task.codebook)));
  const int16_t* x[rows];
  __m256d total[rows][2][2];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    x[m] = x_words(task, row + m);
    for (auto& side : total[m]) side[0] = side[1] = _mm256_setzero_pd();
  }
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t b = 0; b < task.blocks; ++b, w += kCodeBlockBytes) {
    if (first) prefetch_block<kCodeBlockBytes>(w + task.panel_bytes);
    __m256i sum[rows][4];
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) sum[m][0] = sum[m][1] = sum[m][2] = sum[m][3] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      __m256i q[4];
      code_columns(w + 64 * (j % 4), values, j / 4, q);
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m) {
        const __m256i v = broadcast8(x[m] + b * kColumnBlock + 4 * j);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          sum[m][i] = _mm256_add_epi32(sum[m][i], _mm256_madd_epi16(q[i], v));
          keep_here(sum[m][i]);
        }
      }
    }
#pragma GCC unroll 2
    for (int side = 0; side < 2; ++side) {
      const auto* e = reinterpret_cast<const float*>(w + 256) + 8 * side;
      const __m256d e_low = _mm256_cvtps_pd(_mm_loadu_ps(e)), e_high = _mm256_cvtps_pd(_mm_loadu_ps(e + 4));
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m) {
        const __m256i of_8 = _mm256_permute4x64_epi64(
            _mm256_hadd_epi32(sum[m][2 * side], sum[m][2 * side + 1]), _MM_SHUFFLE(3, 1, 2, 0));
        __m256d(&to)[2] = total[m][side];
        to[0] = _mm256_fmadd_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(of_8)), e_low, to[0]);
        to[1] = _mm256_fmadd_pd(_mm256_cvtepi32_pd(_mm256_extracti128_si256(of_8, 1)), e_high, to[1]);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
    for (int side = 0; side < 2; ++side)
      finish(task, row + m, panel * kPanelRows + 8 * side, total[m][side][0], total[m][side][1]);
}
