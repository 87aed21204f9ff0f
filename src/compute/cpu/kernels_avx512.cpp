// Kernels for AVX-512 (F, BW, DQ, VL, VNNI).
//
// An integer product adds, per block of 32 columns, h and l parts of the activation apart: vpdpbusd multiplies four unsigned
// weights with four signed activations and sums them into an int32 lane, one lane per weight row.

#include <immintrin.h>

#include "compute/constants.h"
#include "compute/cpu/kernels.h"

namespace neutrino::compute::cpu {
namespace {

using V = __m512;
using I = __m512i;

constexpr int kAttentionLanes = 2;  // 6 queries x 2 vectors x 2 chains: 24 accumulators of 32 registers
constexpr int kQueryTile = 6;
constexpr int kFloatTile = 4;

inline V load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, V v) { _mm512_storeu_ps(p, v); }
inline V splat(float x) { return _mm512_set1_ps(x); }
inline V add(V a, V b) { return _mm512_add_ps(a, b); }
inline V subtract(V a, V b) { return _mm512_sub_ps(a, b); }
inline V multiply(V a, V b) { return _mm512_mul_ps(a, b); }
inline V divide(V a, V b) { return _mm512_div_ps(a, b); }
inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
inline V maximum(V a, V b) { return _mm512_max_ps(a, b); }
inline V minimum(V a, V b) { return _mm512_min_ps(a, b); }
inline V negate(V a) { return _mm512_xor_ps(a, splat(-0.0f)); }
inline I splat_int(int32_t x) { return _mm512_set1_epi32(x); }
inline I add(I a, I b) { return _mm512_add_epi32(a, b); }
inline I maximum(I a, I b) { return _mm512_max_epi32(a, b); }
inline I to_int(V v) { return _mm512_cvtps_epi32(v); }
inline I shift_right_7(I v) { return _mm512_srai_epi32(v, 7); }
inline I low_7_bits(I v) { return _mm512_and_si512(v, splat_int(127)); }
inline I magnitude_bits(V v) { return _mm512_and_si512(_mm512_castps_si512(v), splat_int(0x7FFFFFFF)); }
inline void store_bytes(int8_t* p, I v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
}
inline void store_words(int16_t* p, I v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(v));
}
inline V exponent_of_low_bits(V v) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(v), splat_int(127)), 23));
}
inline V keep_first(V v, int64_t n) {
  const uint32_t mask = n <= 0 ? 0 : n >= 16 ? 0xFFFF : (1u << n) - 1;
  return _mm512_maskz_mov_ps(static_cast<__mmask16>(mask), v);
}
inline V round_bf16(V v) {
  const I bits = _mm512_castps_si512(v);
  const I odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), splat_int(1));
  const I rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, splat_int(0x7FFF)));
  const I kept =
      _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), bits, splat_int(0x400000));
  return _mm512_castsi512_ps(_mm512_and_si512(kept, splat_int(static_cast<int32_t>(0xFFFF0000))));
}
// 16 pairs of bfloat16: the first and the second of each.
inline void load_pairs(const uint16_t* p, V& even, V& odd) {
  const I pairs = _mm512_loadu_si512(p);
  even = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
  odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, splat_int(static_cast<int32_t>(0xFFFF0000))));
}

inline float tree_sum(V v) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}
inline float tree_maximum(V v) { return _mm512_reduce_max_ps(v); }
inline int32_t tree_sum(I v) { return _mm512_reduce_add_epi32(v); }
inline int32_t tree_maximum(I v) { return _mm512_reduce_max_epi32(v); }

#include "compute/cpu/rows.inl"
//
#include "compute/cpu/attention.inl"
#include "compute/cpu/float_panel.inl"

using Bytes4 [[gnu::may_alias, gnu::aligned(2)]] = int32_t;
inline I broadcast4(const void* p) { return _mm512_set1_epi32(*static_cast<const Bytes4*>(p)); }

inline const XBlock* x_blocks(const PanelTask& task, int64_t row) {
  return reinterpret_cast<const XBlock*>(task.x + row * task.x_stride + sizeof(ActivationHeader));
}
inline float x_scale(const PanelTask& task, int64_t row) {
  return reinterpret_cast<const ActivationHeader*>(task.x + row * task.x_stride)->scale;
}

// out = float(S) * (D * s), S given as two halves of float64.
inline void finish(const PanelTask& task, int64_t row, __m512d low, __m512d high) {
  const V sum = _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
  V y = multiply(sum, multiply(load(task.scales), splat(x_scale(task, row))));
  float* out = task.out + row * task.out_stride;
  if (task.add) y = add(load(out), y);
  store(out, y);
}

inline void finish_planes(const PanelTask& task, int64_t row, I sum_h, I sum_l) {
  const __m512d factor = _mm512_set1_pd(128);
  const auto join = [&](__m256i h, __m256i l) {
    return _mm512_fmadd_pd(_mm512_cvtepi32_pd(h), factor, _mm512_cvtepi32_pd(l));
  };
  finish(task, row, join(_mm512_castsi512_si256(sum_h), _mm512_castsi512_si256(sum_l)),
         join(_mm512_extracti64x4_epi64(sum_h, 1), _mm512_extracti64x4_epi64(sum_l, 1)));
}

// The hardware's prefetchers start anew at every panel that several tiles pass over, so the first tile asks for the next
// panel's block while it works on this one's.
template <int64_t bytes>
inline void prefetch_block(const uint8_t* block) {
#pragma GCC unroll 16
  for (int64_t i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(block + i), _MM_HINT_T0);
}

// The block sum of (q - 8) * x fits int16: its upper half is replaced by the sum of x, so that one vpdpwssd with the pairs
// (e, f) adds e * sum((q - 8) x) + f * sum(x).
inline I add_block(I total, I sum, const int32_t* high, I ef) {
  const I pair = _mm512_ternarylogic_epi32(sum, splat_int(0xFFFF), broadcast4(high), 0xEA);  // (a & b) | c
  return _mm512_dpwssd_epi32(total, pair, ef);
}

template <int rows, bool first>
inline void nibble_tile(const PanelTask& task, int64_t row) {
  const I mask = _mm512_set1_epi8(15);
  const XBlock* x[rows];
  I total_h[rows], total_l[rows];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    x[m] = x_blocks(task, row + m);
    total_h[m] = total_l[m] = splat_int(0);
  }
  const uint8_t* w = task.panel;
  for (int64_t b = 0; b < task.blocks; ++b, w += kNibbleBlockBytes) {
    if constexpr (first) prefetch_block<kNibbleBlockBytes>(task.next + b * kNibbleBlockBytes);
    I sum_h[rows], sum_l[rows];
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) {
      sum_h[m] = broadcast4(&x[m][b].minus_8h);
      sum_l[m] = broadcast4(&x[m][b].minus_8l);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const I q = _mm512_loadu_si512(w + 64 * j);
      const I low = _mm512_and_si512(q, mask), high = _mm512_and_si512(_mm512_srli_epi16(q, 4), mask);
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m) {
        sum_h[m] = _mm512_dpbusd_epi32(sum_h[m], low, broadcast4(x[m][b].h + 4 * j));
        sum_l[m] = _mm512_dpbusd_epi32(sum_l[m], low, broadcast4(x[m][b].l + 4 * j));
        sum_h[m] = _mm512_dpbusd_epi32(sum_h[m], high, broadcast4(x[m][b].h + 16 + 4 * j));
        sum_l[m] = _mm512_dpbusd_epi32(sum_l[m], high, broadcast4(x[m][b].l + 16 + 4 * j));
      }
    }
    const I ef = _mm512_loadu_si512(w + 256);
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) {
      total_h[m] = add_block(total_h[m], sum_h[m], &x[m][b].high_h, ef);
      total_l[m] = add_block(total_l[m], sum_l[m], &x[m][b].high_l, ef);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) finish_planes(task, row + m, total_h[m], total_l[m]);
}

template <int rows, bool first>
inline void byte_tile(const PanelTask& task, int64_t row) {
  const XBlock* x[rows];
  __m512d low[rows], high[rows];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    x[m] = x_blocks(task, row + m);
    low[m] = high[m] = _mm512_setzero_pd();
  }
  const uint8_t* w = task.panel;
  for (int64_t b = 0; b < task.blocks; ++b, w += kByteBlockBytes) {
    if constexpr (first) prefetch_block<kByteBlockBytes>(task.next + b * kByteBlockBytes);
    I sum_h[rows], sum_l[rows];
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) {  // the weights' zero point is 128 = 16 * 8
      sum_h[m] = _mm512_slli_epi32(broadcast4(&x[m][b].minus_8h), 4);
      sum_l[m] = _mm512_slli_epi32(broadcast4(&x[m][b].minus_8l), 4);
    }
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const I q = _mm512_loadu_si512(w + 64 * j);
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m) {
        sum_h[m] = _mm512_dpbusd_epi32(sum_h[m], q, broadcast4(x[m][b].h + 4 * j));
        sum_l[m] = _mm512_dpbusd_epi32(sum_l[m], q, broadcast4(x[m][b].l + 4 * j));
      }
    }
    const auto* e = reinterpret_cast<const float*>(w + 512);
    const __m512d e_low = _mm512_cvtps_pd(_mm256_loadu_ps(e)),
                  e_high = _mm512_cvtps_pd(_mm256_loadu_ps(e + 8));
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) {
      const I sum = _mm512_add_epi32(_mm512_slli_epi32(sum_h[m], 7), sum_l[m]);
      low[m] = _mm512_fmadd_pd(_mm512_cvtepi32_pd(_mm512_castsi512_si256(sum)), e_low, low[m]);
      high[m] = _mm512_fmadd_pd(_mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(sum, 1)), e_high, high[m]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) finish(task, row + m, low[m], high[m]);
}

template <int rows, bool first>
inline void word_tile(const PanelTask& task, int64_t row) {
  const int16_t* x[rows];
  I total_h[rows], total_l[rows];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    x[m] = reinterpret_cast<const int16_t*>(x_blocks(task, row + m) + task.blocks);
    total_h[m] = total_l[m] = splat_int(0);
  }
  const I low_bits = _mm512_set1_epi16(127);
  const uint8_t* w = task.panel;
  for (int64_t k = 0; k < task.blocks * kColumnBlock; k += 2, w += 64) {
    const I q = _mm512_loadu_si512(w);
    if constexpr (first) prefetch_block<64>(task.next + 32 * k);
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) {
      const I v = broadcast4(x[m] + k);
      total_h[m] = _mm512_dpwssd_epi32(total_h[m], q, _mm512_srai_epi16(v, 7));
      total_l[m] = _mm512_dpwssd_epi32(total_l[m], q, _mm512_and_si512(v, low_bits));
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) finish_planes(task, row + m, total_h[m], total_l[m]);
}

// Six rows share a pass over the panel: 12 chains of vpdpbusd hide its latency, 24 registers hold their sums.
#define ROW_TILES(tile)                                                                              \
  int64_t row = 0;                                                                                   \
  if (task.rows >= 6) tile<6, true>(task, row), row += 6;                                            \
  for (; task.rows - row >= 6; row += 6) tile<6, false>(task, row);                                  \
  if (task.rows - row >= 4) row == 0 ? tile<4, true>(task, 0) : tile<4, false>(task, row), row += 4; \
  if (task.rows - row >= 2) row == 0 ? tile<2, true>(task, 0) : tile<2, false>(task, row), row += 2; \
  if (task.rows - row >= 1) row == 0 ? tile<1, true>(task, 0) : tile<1, false>(task, row);

void nibble_panel(const PanelTask& task) { ROW_TILES(nibble_tile) }
void byte_panel(const PanelTask& task) { ROW_TILES(byte_tile) }
void word_panel(const PanelTask& task) { ROW_TILES(word_tile) }

}  // namespace

const Kernels kAvx512Kernels = {
    "avx512", nibble_panel, byte_panel, word_panel,    float_panel, rms_norm,
    quantize, silu_product, rotate,     round_to_bf16, attend,      attend_float,
};

}  // namespace neutrino::compute::cpu
