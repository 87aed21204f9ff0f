// Kernels for AVX2 with FMA.
//
// Nibbles: vpmaddubsw multiplies unsigned weights with signed activation parts, and eight steps of it fit int16
// (8 * 2 * 15 * 127 = 30480), which is one block of 32 columns. Bytes would overflow there, so they are widened to int16 and
// multiplied with the whole 15-bit activation by vpmaddwd: a block's sum fits int32.

#include <immintrin.h>

#include "compute/constants.h"
#include "compute/cpu/kernels.h"

namespace neutrino::compute::cpu {
namespace {

struct V {
  __m256 a, b;
};
struct I {
  __m256i a, b;
};

constexpr int kAttentionLanes = 1;  // 3 queries x 2 registers x 2 chains: 12 accumulators of 16 registers
constexpr int kQueryTile = 3;
constexpr int kSoftmaxTile = 3;  // queries whose exponentials run side by side
constexpr int kFloatTile = 2;
constexpr int kLowRankTile = 2, kLowRankPanels = 2;

inline V load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, V v) { _mm256_storeu_ps(p, v.a), _mm256_storeu_ps(p + 8, v.b); }
inline V splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline V add(V x, V y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline V subtract(V x, V y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline V multiply(V x, V y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline V divide(V x, V y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline V fma(V x, V y, V z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
inline V maximum(V x, V y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline V minimum(V x, V y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline V negate(V x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_xor_ps(x.a, sign), _mm256_xor_ps(x.b, sign)};
}
inline V as_floats(I x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
inline I as_ints(V x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
inline I splat_int(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline I add(I x, I y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
inline I both(I x, I y) { return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
inline I maximum(I x, I y) { return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)}; }
inline I to_int(V x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
inline I shift_right_3(I x) { return {_mm256_srai_epi32(x.a, 3), _mm256_srai_epi32(x.b, 3)}; }
inline I magnitude_bits(V x) { return both(as_ints(x), splat_int(0x7FFFFFFF)); }
inline __m256i pack_words(I x) {
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), _MM_SHUFFLE(3, 1, 2, 0));
}
inline void store_words(int16_t* p, I x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), pack_words(x));
}
inline V to_floats(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
// 16 pairs of int8, and sum + pair . x[0..1].
inline I load_pairs(const int8_t* p) {
  const auto* bytes = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtepi8_epi16(_mm_loadu_si128(bytes)), _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes + 1))};
}
inline I add_pairs(I sum, I w, const int16_t* x) {
  int32_t pair;
  __builtin_memcpy(&pair, x, sizeof pair);
  const __m256i v = _mm256_set1_epi32(pair);
  return {_mm256_add_epi32(sum.a, _mm256_madd_epi16(w.a, v)),
          _mm256_add_epi32(sum.b, _mm256_madd_epi16(w.b, v))};
}
inline V exponent_of_low_bits(V x) {
  const I biased = add(as_ints(x), splat_int(127));
  return as_floats({_mm256_slli_epi32(biased.a, 23), _mm256_slli_epi32(biased.b, 23)});
}
inline V absolute(V x) { return as_floats(magnitude_bits(x)); }
inline V copy_sign(V magnitude, V sign) {
  const I bit = splat_int(static_cast<int32_t>(0x80000000));
  const I of = both(as_ints(sign), bit), rest = magnitude_bits(magnitude);
  return as_floats({_mm256_or_si256(rest.a, of.a), _mm256_or_si256(rest.b, of.b)});
}
// a < b ? x : y
inline V select_less(V a, V b, V x, V y) {
  return {_mm256_blendv_ps(y.a, x.a, _mm256_cmp_ps(a.a, b.a, _CMP_LT_OQ)),
          _mm256_blendv_ps(y.b, x.b, _mm256_cmp_ps(a.b, b.b, _CMP_LT_OQ))};
}
inline V keep_first(V x, int64_t n) {
  const I limit = splat_int(n <= 0 ? 0 : n >= 16 ? 16 : static_cast<int32_t>(n));
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const I mask = {_mm256_cmpgt_epi32(limit.a, index),
                  _mm256_cmpgt_epi32(limit.b, _mm256_add_epi32(index, _mm256_set1_epi32(8)))};
  return as_floats(both(as_ints(x), mask));
}
inline __m256i upper_half(__m256i bits) {
  return _mm256_and_si256(bits, _mm256_set1_epi32(static_cast<int32_t>(0xFFFF0000)));
}
inline __m256i add_half(__m256i bits) {  // of the last place kept, less where that place is even
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
}
inline __m256i round_half(__m256i bits) {
  const __m256 v = _mm256_castsi256_ps(bits);
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  return upper_half(_mm256_blendv_epi8(add_half(bits), quiet, nan));
}
inline V round_bf16(V x) { return as_floats({round_half(as_ints(x).a), round_half(as_ints(x).b)}); }
inline V round_number_bf16(V x) {  // no NaN
  return as_floats({upper_half(add_half(as_ints(x).a)), upper_half(add_half(as_ints(x).b))});
}
// 16 pairs of bfloat16, or of int8 as floats: the first and the second of each.
inline V load_even(const uint16_t* p) {
  const I pairs = as_ints(load(reinterpret_cast<const float*>(p)));
  return as_floats({_mm256_slli_epi32(pairs.a, 16), _mm256_slli_epi32(pairs.b, 16)});
}
inline V load_odd(const uint16_t* p) {
  asm(""
      : "+r"(
          p));  // loads again: the pairs of load_even() would take registers from the sums, which then spill
  const I pairs = as_ints(load(reinterpret_cast<const float*>(p)));
  return as_floats(both(pairs, splat_int(static_cast<int32_t>(0xFFFF0000))));
}
inline I load_words(const int8_t* p) {
  const auto* words = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtepi16_epi32(_mm_loadu_si128(words)), _mm256_cvtepi16_epi32(_mm_loadu_si128(words + 1))};
}
inline V load_even(const int8_t* p) {
  const I words = load_words(p);
  return {_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(words.a, 24), 24)),
          _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(words.b, 24), 24))};
}
inline V load_odd(const int8_t* p) {
  const I words = load_words(p);
  return {_mm256_cvtepi32_ps(_mm256_srai_epi32(words.a, 8)),
          _mm256_cvtepi32_ps(_mm256_srai_epi32(words.b, 8))};
}

inline float tree_sum(V x) {
  const __m256 half = _mm256_add_ps(x.a, x.b);
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}
inline float tree_maximum(V x) {
  const __m256 half = _mm256_max_ps(x.a, x.b);
  const __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}
inline int32_t tree_maximum(I x) {
  const __m256i half = _mm256_max_epi32(x.a, x.b);
  const __m128i quarter = _mm_max_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  const __m128i pair = _mm_max_epi32(quarter, _mm_unpackhi_epi64(quarter, quarter));
  return _mm_cvtsi128_si32(_mm_max_epi32(pair, _mm_shuffle_epi32(pair, 1)));
}

#include "compute/cpu/quantize_block.inl"
//
#include "compute/cpu/rows.inl"
//
#include "compute/cpu/attention.inl"
#include "compute/cpu/float_panels.inl"
#include "compute/cpu/low_rank.inl"
#include "compute/cpu/states.inl"

// The compiler would put off the additions of a whole block and spill every product: this says that the sum is wanted now.
inline void keep_here(__m256i& sum) { asm("" : "+x"(sum)); }

using Bytes4 [[gnu::may_alias, gnu::aligned(2)]] = int32_t;
using Bytes8 [[gnu::may_alias, gnu::aligned(2)]] = long long;
inline __m256i broadcast4(const void* p) { return _mm256_set1_epi32(*static_cast<const Bytes4*>(p)); }
inline __m256i broadcast8(const void* p) { return _mm256_set1_epi64x(*static_cast<const Bytes8*>(p)); }
inline __m256i load32(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

inline const XBlock* x_blocks(const PanelTask& task, int64_t row) {
  return reinterpret_cast<const XBlock*>(task.x + row * task.x_stride + sizeof(ActivationHeader));
}
inline const int16_t* x_words(const PanelTask& task, int64_t row) {
  return reinterpret_cast<const int16_t*>(x_blocks(task, row) + task.blocks);
}

// out = float(S) * (D * s) for weight rows first ... first + 7.
inline void finish(const PanelTask& task, int64_t row, int64_t first, __m256 sum) {
  const float scale = reinterpret_cast<const ActivationHeader*>(task.x + row * task.x_stride)->scale;
  __m256 y = _mm256_mul_ps(sum, _mm256_mul_ps(_mm256_loadu_ps(task.scales + first), _mm256_set1_ps(scale)));
  float* out = task.out + row * task.out_stride + first;
  if (task.add) y = _mm256_add_ps(_mm256_loadu_ps(out), y);
  _mm256_storeu_ps(out, y);
}

// S given as two halves of float64.
inline void finish(const PanelTask& task, int64_t row, int64_t first, __m256d low, __m256d high) {
  finish(task, row, first, _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low)));
}

inline void finish_planes(const PanelTask& task, int64_t row, int64_t first, __m256i sum_h, __m256i sum_l) {
  const auto join = [](__m128i h, __m128i l) {
    return _mm256_fmadd_pd(_mm256_cvtepi32_pd(h), _mm256_set1_pd(128), _mm256_cvtepi32_pd(l));
  };
  finish(task, row, first, join(_mm256_castsi256_si128(sum_h), _mm256_castsi256_si128(sum_l)),
         join(_mm256_extracti128_si256(sum_h, 1), _mm256_extracti128_si256(sum_l, 1)));
}

// e * sum((q - 8) x) + f * sum(x): the block sum fits int16, its upper half takes the sum of x.
inline __m256i block_product(__m256i pairs, const int32_t* minus_8_sum, const int32_t* high_sum, __m256i ef) {
  const __m256i sum =
      _mm256_add_epi32(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)), broadcast4(minus_8_sum));
  return _mm256_madd_epi16(_mm256_blend_epi16(sum, broadcast4(high_sum), 0xAA), ef);
}

// The first tile over a panel asks for the next panel's block: see kernels_avx512.cpp.
template <int64_t bytes>
inline void prefetch_block(const uint8_t* block) {
#pragma GCC unroll 16
  for (int64_t i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(block + i), _MM_HINT_T0);
}

// A tile: `rows` activation rows by one panel, in two halves of eight weight rows that share the broadcasts.
template <int rows, bool first>
inline void nibble_tile(const PanelTask& task, int64_t row, int64_t panel) {
  const __m256i mask = _mm256_set1_epi8(15);
  const XBlock* x[rows];
  __m256i total_h[rows][2], total_l[rows][2];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    x[m] = x_blocks(task, row + m);
    total_h[m][0] = total_h[m][1] = total_l[m][0] = total_l[m][1] = _mm256_setzero_si256();
  }
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t b = 0; b < task.blocks; ++b, w += kNibbleBlockBytes) {
    if (first) prefetch_block<kNibbleBlockBytes>(w + task.panel_bytes);
    __m256i sum_h[rows][2], sum_l[rows][2];
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
      sum_h[m][0] = sum_h[m][1] = sum_l[m][0] = sum_l[m][1] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m256i q0 = load32(w + 64 * j), q1 = load32(w + 64 * j + 32);
      const __m256i low[2] = {_mm256_and_si256(q0, mask), _mm256_and_si256(q1, mask)};
      const __m256i high[2] = {_mm256_and_si256(_mm256_srli_epi16(q0, 4), mask),
                               _mm256_and_si256(_mm256_srli_epi16(q1, 4), mask)};
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m) {
        const auto step = [](__m256i(&sum)[2], const __m256i(&q)[2], const int8_t* part) {
          const __m256i v = broadcast4(part);
          sum[0] = _mm256_add_epi16(sum[0], _mm256_maddubs_epi16(q[0], v));
          sum[1] = _mm256_add_epi16(sum[1], _mm256_maddubs_epi16(q[1], v));
          keep_here(sum[0]), keep_here(sum[1]);
        };
        step(sum_h[m], low, x[m][b].h + 4 * j), step(sum_l[m], low, x[m][b].l + 4 * j);
        step(sum_h[m], high, x[m][b].h + 16 + 4 * j), step(sum_l[m], high, x[m][b].l + 16 + 4 * j);
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) {
      const XBlock& block = x[m][b];
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m256i ef = load32(w + 256 + 32 * half);
        total_h[m][half] = _mm256_add_epi32(
            total_h[m][half], block_product(sum_h[m][half], &block.minus_8h, &block.high_h, ef));
        total_l[m][half] = _mm256_add_epi32(
            total_l[m][half], block_product(sum_l[m][half], &block.minus_8l, &block.high_l, ef));
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
      finish_planes(task, row + m, panel * kPanelRows + 8 * half, total_h[m][half], total_l[m][half]);
}

// Four registers of four weight rows by four columns, widened to int16.
template <int rows, bool first>
inline void byte_tile(const PanelTask& task, int64_t row, int64_t panel) {
  const int16_t* x[rows];
  __m256d low[rows][2], high[rows][2];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    x[m] = x_words(task, row + m);
    low[m][0] = low[m][1] = high[m][0] = high[m][1] = _mm256_setzero_pd();
  }
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t b = 0; b < task.blocks; ++b, w += kByteBlockBytes) {
    if (first) prefetch_block<kByteBlockBytes>(w + task.panel_bytes);
    __m256i sum[rows][4];
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) sum[m][0] = sum[m][1] = sum[m][2] = sum[m][3] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      __m256i q[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        q[i] = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + 64 * j + 16 * i)));
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
    for (int half = 0; half < 2; ++half) {
      const auto* e = reinterpret_cast<const float*>(w + 512) + 8 * half;
      const __m256d e_low = _mm256_cvtps_pd(_mm_loadu_ps(e)), e_high = _mm256_cvtps_pd(_mm_loadu_ps(e + 4));
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m) {
        const XBlock& block = x_blocks(task, row + m)[b];
        const __m256i zero_point = _mm256_set1_epi32(16 * (128 * block.minus_8h + block.minus_8l));
        const __m256i rows_of_8 = _mm256_permute4x64_epi64(
            _mm256_hadd_epi32(sum[m][2 * half], sum[m][2 * half + 1]), _MM_SHUFFLE(3, 1, 2, 0));
        const __m256i total = _mm256_add_epi32(rows_of_8, zero_point);
        low[m][half] =
            _mm256_fmadd_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(total)), e_low, low[m][half]);
        high[m][half] =
            _mm256_fmadd_pd(_mm256_cvtepi32_pd(_mm256_extracti128_si256(total, 1)), e_high, high[m][half]);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
      finish(task, row + m, panel * kPanelRows + 8 * half, low[m][half], high[m][half]);
}

// A run of kWordRun columns fits int32: one vpmaddwd a pair of columns and half a panel.
template <int rows, bool first>
inline void word_tile(const PanelTask& task, int64_t row, int64_t panel) {
  const int64_t columns = task.blocks * kColumnBlock;
  const int16_t* x[rows];
  __m256d total[rows][2][2];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    x[m] = x_words(task, row + m);
    for (auto& half : total[m]) half[0] = half[1] = _mm256_setzero_pd();
  }
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t run = 0; run < columns; run += kWordRun) {
    const int64_t end = columns - run < kWordRun ? columns : run + kWordRun;
    __m256i sum[rows][2];
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) sum[m][0] = sum[m][1] = _mm256_setzero_si256();
    for (int64_t k = run; k < end; k += 2, w += 64) {
      if (first) prefetch_block<64>(w + task.panel_bytes);
      const __m256i q[2] = {load32(w), load32(w + 32)};
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m) {
        const __m256i v = broadcast4(x[m] + k);
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          sum[m][half] = _mm256_add_epi32(sum[m][half], _mm256_madd_epi16(q[half], v));
          keep_here(sum[m][half]);
        }
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        __m256d(&sums)[2] = total[m][half];
        sums[0] = _mm256_add_pd(sums[0], _mm256_cvtepi32_pd(_mm256_castsi256_si128(sum[m][half])));
        sums[1] = _mm256_add_pd(sums[1], _mm256_cvtepi32_pd(_mm256_extracti128_si256(sum[m][half], 1)));
      }
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
      finish(task, row + m, panel * kPanelRows + 8 * half, total[m][half][0], total[m][half][1]);
}

#include "compute/cpu/packed_avx2.inl"
//
#include "compute/cpu/unpack_avx2.inl"
//
#include "compute/cpu/unpacked_avx2.inl"

#define PANEL_LOOPS(tile)                                                    \
  for (int64_t panel = 0; panel < task.panels; ++panel) {                    \
    int64_t row = 0;                                                         \
    if (task.rows >= 2) tile<2, true>(task, row, panel), row += 2;           \
    for (; task.rows - row >= 2; row += 2) tile<2, false>(task, row, panel); \
    if (task.rows - row >= 1) tile<1, true>(task, row, panel);               \
  }

void nibble_panels(const PanelTask& task) {
  if (unpack_pays<Nibbles>(task)) return unpacked_panels<Nibbles>(task);
  PANEL_LOOPS(nibble_tile)
}
void five_panels(const PanelTask& task) {
  if (unpack_pays<Fives>(task)) return unpacked_panels<Fives>(task);
  PANEL_LOOPS(five_tile)
}
void six_panels(const PanelTask& task) {
  if (unpack_pays<Sixes>(task)) return unpacked_panels<Sixes>(task);
  PANEL_LOOPS(six_tile)
}
void code_panels(const PanelTask& task) {
  if (unpack_pays<Codes>(task)) return unpacked_panels<Codes>(task);
  PANEL_LOOPS(code_tile)
}
void byte_panels(const PanelTask& task) {
  if (unpack_pays<Bytes>(task)) return unpacked_panels<Bytes>(task);
  PANEL_LOOPS(byte_tile)
}
void word_panels(const PanelTask& task) {
  if (unpack_pays<Words>(task)) return unpacked_panels<Words>(task);
  for (int64_t panel = 0; panel < task.panels; ++panel) {
    int64_t row = 0;
    if (task.rows >= 4) word_tile<4, true>(task, 0, panel), row = 4;
    for (; task.rows - row >= 4; row += 4) word_tile<4, false>(task, row, panel);
    for (; task.rows - row >= 2; row += 2) word_tile<2, false>(task, row, panel);
    if (task.rows - row >= 1) word_tile<1, false>(task, row, panel);
  }
}

}  // namespace

const Kernels kAvx2Kernels = {
    "avx2",
    nibble_panels,
    five_panels,
    six_panels,
    code_panels,
    byte_panels,
    word_panels,
    float_panels,
    rms_norm,
    layer_norm,
    apply,
    gate,
    softcap_values,
    quantize,
    decay_state,
    update_state,
    scan_state,
    rotate,
    round_to_bf16,
    attend,
    attend_float,
    low_rank,
    low_rank_float,
    round_words,
    false,
    sizeof(UnpackedWork),
    kUnpackedRowsMax,
};

}  // namespace neutrino::compute::cpu
