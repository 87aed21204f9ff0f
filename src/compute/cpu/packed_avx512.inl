// Products with weights of five and six bits and with codebooks, for AVX-512: included by kernels_avx512.cpp, in whose
// nibble_tile and byte_tile the scheme is simpler to read.

// e or s as int32 from the lower half of a pair.
inline I lower_half(I pair) { return _mm512_srai_epi32(_mm512_slli_epi32(pair, 16), 16); }

// `nibbles` with the bits of `high` above them: one from bit `from` (five), two from there (six).
template <int from, int mask>
inline I join_bits(I nibbles, I high) {
  constexpr int shift = 4 - from;
  I moved = high;
  if constexpr (shift > 0) moved = _mm512_slli_epi16(high, shift);
  if constexpr (shift < 0) moved = _mm512_srli_epi16(high, -shift);
  return _mm512_ternarylogic_epi32(nibbles, _mm512_set1_epi8(15),
                                   _mm512_and_si512(moved, _mm512_set1_epi8(mask)),
                                   0xEA);  // (a & b) | c
}

// sum += q * part of four columns, for the rows of `x`, in both parts.
template <int rows, int panels>
[[gnu::always_inline]] inline void add_columns(I (&sum_h)[rows][panels], I (&sum_l)[rows][panels],
                                               const I (&q)[panels], const XBlock* const (&x)[rows],
                                               int64_t b, int column) {
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    const I h = broadcast4(x[m][b].h + column), l = broadcast4(x[m][b].l + column);
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) {
      sum_h[m][p] = _mm512_dpbusd_epi32(sum_h[m][p], q[p], h);
      sum_l[m][p] = _mm512_dpbusd_epi32(sum_l[m][p], q[p], l);
    }
  }
}

// Four columns of the lower (half = 0) or upper nibbles, with the fifth bit of each.
template <int half, int j, int rows, int panels>
[[gnu::always_inline]] inline void five_columns(I (&sum_h)[rows][panels], I (&sum_l)[rows][panels],
                                                const XBlock* const (&x)[rows], int64_t b,
                                                const I (&bits)[panels], const uint8_t* w,
                                                int64_t panel_bytes) {
  I q[panels];
#pragma GCC unroll 2
  for (int p = 0; p < panels; ++p) {
    I nibbles = _mm512_loadu_si512(w + p * panel_bytes + 64 * j);
    if (half == 1) nibbles = _mm512_srli_epi16(nibbles, 4);
    q[p] = join_bits<4 * half + j, 0x10>(nibbles, bits[p]);
  }
  add_columns(sum_h, sum_l, q, x, b, 16 * half + 4 * j);
}

// The block sum of (q - 16) * x has 17 bits: e is multiplied in as int32, f as in add_block.
template <int rows, int panels, bool first>
inline void five_tile(const PanelTask& task, int64_t row, int64_t panel) {
  const int64_t stride = task.panel_bytes;
  const XBlock* x[rows];
  I total_h[rows][panels], total_l[rows][panels];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    x[m] = x_blocks(task, row + m);
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) total_h[m][p] = total_l[m][p] = splat_int(0);
  }
  const uint8_t* w = task.panel + panel * stride;
  for (int64_t b = 0; b < task.blocks; ++b, w += kFiveBlockBytes) {
    I sum_h[rows][panels], sum_l[rows][panels], bits[panels];
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) {
      bits[p] = _mm512_loadu_si512(w + p * stride + 256);
      if (first) prefetch_block<kFiveBlockBytes>(w + (panels + p) * stride);
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m) {  // the zero point is 16 = 2 * 8
        sum_h[m][p] = _mm512_slli_epi32(broadcast4(&x[m][b].minus_8h), 1);
        sum_l[m][p] = _mm512_slli_epi32(broadcast4(&x[m][b].minus_8l), 1);
      }
    }
    five_columns<0, 0>(sum_h, sum_l, x, b, bits, w, stride);
    five_columns<0, 1>(sum_h, sum_l, x, b, bits, w, stride);
    five_columns<0, 2>(sum_h, sum_l, x, b, bits, w, stride);
    five_columns<0, 3>(sum_h, sum_l, x, b, bits, w, stride);
    five_columns<1, 0>(sum_h, sum_l, x, b, bits, w, stride);
    five_columns<1, 1>(sum_h, sum_l, x, b, bits, w, stride);
    five_columns<1, 2>(sum_h, sum_l, x, b, bits, w, stride);
    five_columns<1, 3>(sum_h, sum_l, x, b, bits, w, stride);
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) {
      const I ef = _mm512_loadu_si512(w + p * stride + 320), e = lower_half(ef);
      const auto add_sum = [&](I total, I sum, const int32_t* high) {
        return _mm512_dpwssd_epi32(add(total, _mm512_mullo_epi32(sum, e)), broadcast4(high), ef);
      };
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m) {
        total_h[m][p] = add_sum(total_h[m][p], sum_h[m][p], &x[m][b].high_h);
        total_l[m][p] = add_sum(total_l[m][p], sum_l[m][p], &x[m][b].high_l);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) finish_planes(task, row + m, panel + p, total_h[m][p], total_l[m][p]);
}

template <int j, int rows, int panels>
[[gnu::always_inline]] inline void six_columns(I (&sum_h)[rows][panels], I (&sum_l)[rows][panels],
                                               const XBlock* const (&x)[rows], int64_t b, int half,
                                               const uint8_t* w, int64_t panel_bytes) {
  I q[panels];
#pragma GCC unroll 2
  for (int p = 0; p < panels; ++p) {
    I nibbles = _mm512_loadu_si512(w + p * panel_bytes + 64 * j);
    if (half == 1) nibbles = _mm512_srli_epi16(nibbles, 4);
    q[p] = join_bits<2 * j, 0x30>(nibbles, _mm512_loadu_si512(w + p * panel_bytes + 256 + 64 * half));
  }
  add_columns(sum_h, sum_l, q, x, b, 16 * half + 4 * j);
}

// One block of 32 columns into the int32 sums of s (q - 32) x, which hold 256 columns (2^7 * 2^5 * 2^7 * 2^8).
template <int rows, int panels>
[[gnu::always_inline]] inline void six_block(I (&total_h)[rows][panels], I (&total_l)[rows][panels],
                                             const XBlock* const (&x)[rows], int64_t b, const uint8_t* w,
                                             const uint8_t* scales, int64_t panel_bytes) {
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    I sum_h[rows][panels], sum_l[rows][panels];
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p) sum_h[m][p] = sum_l[m][p] = splat_int(0);
    six_columns<0>(sum_h, sum_l, x, b, half, w, panel_bytes);
    six_columns<1>(sum_h, sum_l, x, b, half, w, panel_bytes);
    six_columns<2>(sum_h, sum_l, x, b, half, w, panel_bytes);
    six_columns<3>(sum_h, sum_l, x, b, half, w, panel_bytes);
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) {
      const I pairs = _mm512_cvtepi8_epi16(
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales + p * panel_bytes)));
      const I s = half == 0 ? lower_half(pairs) : _mm512_srai_epi32(pairs, 16);
      const I twice = _mm512_slli_epi16(pairs, 1);  // by -16 sum(x): the zero point of both halves
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m) {
        total_h[m][p] = add(total_h[m][p], _mm512_mullo_epi32(sum_h[m][p], s));
        total_l[m][p] = add(total_l[m][p], _mm512_mullo_epi32(sum_l[m][p], s));
        if (half == 0) continue;
        total_h[m][p] = _mm512_dpwssd_epi32(total_h[m][p], broadcast4(x[m][b].minus_16h), twice);
        total_l[m][p] = _mm512_dpwssd_epi32(total_l[m][p], broadcast4(x[m][b].minus_16l), twice);
      }
    }
  }
}

// total += e (128 h + l), sixteen float64 in memory.
[[gnu::always_inline]] inline void add_planes(I sum_h, I sum_l, const float* e, bool first_sum,
                                              double* total) {
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const auto part = [=](I v) {
      return half == 0 ? _mm512_castsi512_si256(v) : _mm512_extracti64x4_epi64(v, 1);
    };
    const __m512d sum = _mm512_fmadd_pd(_mm512_cvtepi32_pd(part(sum_h)), _mm512_set1_pd(128),
                                        _mm512_cvtepi32_pd(part(sum_l)));
    const __m512d before = first_sum ? _mm512_setzero_pd() : _mm512_load_pd(total + 8 * half);
    _mm512_store_pd(total + 8 * half,
                    _mm512_fmadd_pd(sum, _mm512_cvtps_pd(_mm256_loadu_ps(e + 8 * half)), before));
  }
}

template <int rows, int panels, bool first>
inline void six_tile(const PanelTask& task, int64_t row, int64_t panel) {
  alignas(64) double total[rows][panels][16];
  const XBlock* x[rows];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) x[m] = x_blocks(task, row + m);
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t run = 0; run < task.blocks; run += kSixBlocks, w += kSixBlocks * kSixBlockBytes) {
    I total_h[rows][panels], total_l[rows][panels];
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p) total_h[m][p] = total_l[m][p] = splat_int(0);
    for (int64_t b = 0; b < kSixBlocks; ++b) {
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p)
        if (first) prefetch_block<kSixBlockBytes>(w + (panels + p) * task.panel_bytes + b * kSixBlockBytes);
      six_block(total_h, total_l, x, run + b, w + b * kSixBits, w + kSixScalesAt + 32 * b, task.panel_bytes);
    }
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p)
        add_planes(total_h[m][p], total_l[m][p],
                   reinterpret_cast<const float*>(w + p * task.panel_bytes + kSixFactorsAt), run == 0,
                   total[m][p]);
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p)
      finish(task, row + m, panel + p, _mm512_load_pd(total[m][p]), _mm512_load_pd(total[m][p] + 8));
}

// byte_tile, whose bytes come out of the codebook: a value plus 128.
template <int rows, int panels, bool first>
inline void code_tile(const PanelTask& task, int64_t row, int64_t panel) {
  const I mask = _mm512_set1_epi8(15);
  const I values = _mm512_xor_si512(
      _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(task.codebook))),
      _mm512_set1_epi8(-128));
  const XBlock* x[rows];
  __m512d low[rows][panels], high[rows][panels];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    x[m] = x_blocks(task, row + m);
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) low[m][p] = high[m][p] = _mm512_setzero_pd();
  }
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t b = 0; b < task.blocks; ++b, w += kCodeBlockBytes) {
    I sum_h[rows][panels], sum_l[rows][panels];
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p) {
        sum_h[m][p] = _mm512_slli_epi32(broadcast4(&x[m][b].minus_8h), 4);
        sum_l[m][p] = _mm512_slli_epi32(broadcast4(&x[m][b].minus_8l), 4);
        if (first && m == 0) prefetch_block<kCodeBlockBytes>(w + (panels + p) * task.panel_bytes);
      }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      I lower[panels], upper[panels];
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p) {
        const I q = _mm512_loadu_si512(w + p * task.panel_bytes + 64 * j);
        lower[p] = _mm512_shuffle_epi8(values, _mm512_and_si512(q, mask));
        upper[p] = _mm512_shuffle_epi8(values, _mm512_and_si512(_mm512_srli_epi16(q, 4), mask));
      }
      add_columns(sum_h, sum_l, lower, x, b, 4 * j);
      add_columns(sum_h, sum_l, upper, x, b, 16 + 4 * j);
    }
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) {
      const auto* e = reinterpret_cast<const float*>(w + p * task.panel_bytes + 256);
      const __m512d e_low = _mm512_cvtps_pd(_mm256_loadu_ps(e)),
                    e_high = _mm512_cvtps_pd(_mm256_loadu_ps(e + 8));
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m) {
        const I sum = _mm512_add_epi32(_mm512_slli_epi32(sum_h[m][p], 7), sum_l[m][p]);
        low[m][p] = _mm512_fmadd_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(sum)), e_low, low[m][p]);
        high[m][p] =
            _mm512_fmadd_pd(_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(sum, 1)), e_high, high[m][p]);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) finish(task, row + m, panel + p, low[m][p], high[m][p]);
}
