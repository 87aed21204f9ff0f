// Kernels for AVX-512 (F, BW, DQ, VL, VNNI).
//
// An integer product adds, per block of 32 columns, h and l parts of the activation apart: vpdpbusd multiplies four unsigned
// weights with four signed activations and sums them into an int32 lane, one lane per weight row.

#include <immintrin.h>

#include "compute/constants.h"
#include "compute/cpu/kernels.h"

namespace neutrino::compute::cpu {
namespace {

#include "compute/cpu/vectors_avx512.inl"
//
#include "compute/cpu/quantize_block.inl"
//
#include "compute/cpu/rows.inl"
//
#include "compute/cpu/attention.inl"
#include "compute/cpu/float_panels.inl"
#include "compute/cpu/low_rank.inl"
#include "compute/cpu/states.inl"

using Bytes4 [[gnu::may_alias, gnu::aligned(2)]] = int32_t;
inline I broadcast4(const void* p) { return _mm512_set1_epi32(*static_cast<const Bytes4*>(p)); }

inline const XBlock* x_blocks(const PanelTask& task, int64_t row) {
  return reinterpret_cast<const XBlock*>(task.x + row * task.x_stride + sizeof(ActivationHeader));
}
inline float x_scale(const PanelTask& task, int64_t row) {
  return reinterpret_cast<const ActivationHeader*>(task.x + row * task.x_stride)->scale;
}

// out = float(S) * (D * s) for one panel, S given as two halves of float64.
inline void finish(const PanelTask& task, int64_t row, int64_t panel, __m512d low, __m512d high) {
  const V sum = _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
  V y = multiply(sum, multiply(load(task.scales + panel * kPanelRows), splat(x_scale(task, row))));
  float* out = task.out + row * task.out_stride + panel * kPanelRows;
  if (task.add) y = add(load(out), y);
  store(out, y);
}

inline void finish_planes(const PanelTask& task, int64_t row, int64_t panel, I sum_h, I sum_l) {
  const __m512d factor = _mm512_set1_pd(128);
  const auto join = [&](__m256i h, __m256i l) {
    return _mm512_fmadd_pd(_mm512_cvtepi32_pd(h), factor, _mm512_cvtepi32_pd(l));
  };
  finish(task, row, panel, join(_mm512_castsi512_si256(sum_h), _mm512_castsi512_si256(sum_l)),
         join(_mm512_extracti64x4_epi64(sum_h, 1), _mm512_extracti64x4_epi64(sum_l, 1)));
}

// The hardware's prefetchers start anew at every panel that several tiles pass over, so the first tile asks for what comes
// after its panels while it works on them.
template <int64_t bytes>
inline void prefetch_block(const uint8_t* block) {
#pragma GCC unroll 16
  for (int64_t i = 0; i < bytes; i += 64) _mm_prefetch(reinterpret_cast<const char*>(block + i), _MM_HINT_T0);
}

// The block sum of (q - 8) * x fits int16: its upper half is replaced by the sum of x, so that one vpdpwssd with the pairs
// (e, f) adds e * sum((q - 8) x) + f * sum(x).
inline I add_block(I total, I sum, I high, I ef) {
  const I pair = _mm512_ternarylogic_epi32(sum, splat_int(0xFFFF), high, 0xEA);  // (a & b) | c
  return _mm512_dpwssd_epi32(total, pair, ef);
}

// A tile: `rows` activation rows by `panels` panels. `first`: the first one over these panels.
template <int rows, int panels, bool first>
inline void nibble_tile(const PanelTask& task, int64_t row, int64_t panel) {
  const I mask = _mm512_set1_epi8(15);
  const XBlock* x[rows];
  I total_h[rows][panels], total_l[rows][panels];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    x[m] = x_blocks(task, row + m);
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) total_h[m][p] = total_l[m][p] = splat_int(0);
  }
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t b = 0; b < task.blocks; ++b, w += kNibbleBlockBytes) {
    I sum_h[rows][panels], sum_l[rows][panels];
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p) {
        sum_h[m][p] = broadcast4(&x[m][b].minus_8h);
        sum_l[m][p] = broadcast4(&x[m][b].minus_8l);
        if (first && m == 0) prefetch_block<kNibbleBlockBytes>(w + (panels + p) * task.panel_bytes);
      }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      I low[panels], high[panels];
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p) {
        const I q = _mm512_loadu_si512(w + p * task.panel_bytes + 64 * j);
        low[p] = _mm512_and_si512(q, mask);
        high[p] = _mm512_and_si512(_mm512_srli_epi16(q, 4), mask);
      }
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m) {
        const auto step = [&](I(&sum)[panels], const I(&q)[panels], const int8_t* part) {
          const I v = broadcast4(part);
#pragma GCC unroll 2
          for (int p = 0; p < panels; ++p) sum[p] = _mm512_dpbusd_epi32(sum[p], q[p], v);
        };
        step(sum_h[m], low, x[m][b].h + 4 * j), step(sum_l[m], low, x[m][b].l + 4 * j);
        step(sum_h[m], high, x[m][b].h + 16 + 4 * j), step(sum_l[m], high, x[m][b].l + 16 + 4 * j);
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) {
      const I high_h = broadcast4(&x[m][b].high_h), high_l = broadcast4(&x[m][b].high_l);
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p) {
        const I ef = _mm512_loadu_si512(w + p * task.panel_bytes + 256);
        total_h[m][p] = add_block(total_h[m][p], sum_h[m][p], high_h, ef);
        total_l[m][p] = add_block(total_l[m][p], sum_l[m][p], high_l, ef);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) finish_planes(task, row + m, panel + p, total_h[m][p], total_l[m][p]);
}

template <int rows, int panels, bool first>
inline void byte_tile(const PanelTask& task, int64_t row, int64_t panel) {
  const XBlock* x[rows];
  __m512d low[rows][panels], high[rows][panels];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m) {
    x[m] = x_blocks(task, row + m);
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) low[m][p] = high[m][p] = _mm512_setzero_pd();
  }
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t b = 0; b < task.blocks; ++b, w += kByteBlockBytes) {
    I sum_h[rows][panels], sum_l[rows][panels];
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p) {  // the weights' zero point is 128 = 16 * 8
        sum_h[m][p] = _mm512_slli_epi32(broadcast4(&x[m][b].minus_8h), 4);
        sum_l[m][p] = _mm512_slli_epi32(broadcast4(&x[m][b].minus_8l), 4);
        if (first && m == 0) prefetch_block<kByteBlockBytes>(w + (panels + p) * task.panel_bytes);
      }
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      I q[panels];
#pragma GCC unroll 2
      for (int p = 0; p < panels; ++p) q[p] = _mm512_loadu_si512(w + p * task.panel_bytes + 64 * j);
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m) {
        const I h = broadcast4(x[m][b].h + 4 * j), l = broadcast4(x[m][b].l + 4 * j);
#pragma GCC unroll 2
        for (int p = 0; p < panels; ++p) {
          sum_h[m][p] = _mm512_dpbusd_epi32(sum_h[m][p], q[p], h);
          sum_l[m][p] = _mm512_dpbusd_epi32(sum_l[m][p], q[p], l);
        }
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < panels; ++p) {
      const auto* e = reinterpret_cast<const float*>(w + p * task.panel_bytes + 512);
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

// Adds a run's sums to the totals, which live in memory: registers hold the sums.
inline void add_run(I sum, bool first_run, double* total) {
  __m512d low = _mm512_cvtepi32_pd(_mm512_castsi512_si256(sum));
  __m512d high = _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(sum, 1));
  if (!first_run)
    low = _mm512_add_pd(low, _mm512_load_pd(total)), high = _mm512_add_pd(high, _mm512_load_pd(total + 8));
  _mm512_store_pd(total, low), _mm512_store_pd(total + 8, high);
}

// A run of kWordRun columns fits int32: one vpdpwssd a pair of columns, `rows` x `panels` accumulators.
template <int rows, int panels, bool first>
inline void word_tile(const PanelTask& task, int64_t row, int64_t panel) {
  const int64_t columns = task.blocks * kColumnBlock;
  alignas(64) double total[rows][panels][16];
  const int16_t* x[rows];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
    x[m] = reinterpret_cast<const int16_t*>(x_blocks(task, row + m) + task.blocks);
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t run = 0; run < columns; run += kWordRun) {
    const int64_t end = columns - run < kWordRun ? columns : run + kWordRun;
    I sum[rows][panels];
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
      for (int p = 0; p < panels; ++p) sum[m][p] = splat_int(0);
    for (int64_t k = run; k < end; k += 2, w += 64) {
      I q[panels];
#pragma GCC unroll 4
      for (int p = 0; p < panels; ++p) {
        q[p] = _mm512_loadu_si512(w + p * task.panel_bytes);
        if (first) prefetch_block<64>(w + (panels + p) * task.panel_bytes);
      }
#pragma GCC unroll 8
      for (int m = 0; m < rows; ++m) {
        const I v = broadcast4(x[m] + k);
#pragma GCC unroll 4
        for (int p = 0; p < panels; ++p) add_pairs(sum[m][p], q[p], v);
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
      for (int p = 0; p < panels; ++p) add_run(sum[m][p], run == 0, total[m][p]);
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 4
    for (int p = 0; p < panels; ++p)
      finish(task, row + m, panel + p, _mm512_load_pd(total[m][p]), _mm512_load_pd(total[m][p] + 8));
}

#include "compute/cpu/packed_avx512.inl"

// All rows over `panels` panels.
template <int panels>
void word_rows(const PanelTask& task, int64_t panel) {
  int64_t row = 0;
  if (task.rows >= 8) word_tile<8, panels, true>(task, 0, panel), row = 8;
  for (; task.rows - row >= 8; row += 8) word_tile<8, panels, false>(task, row, panel);
  for (; task.rows - row >= 4; row += 4) word_tile<4, panels, false>(task, row, panel);
  for (; task.rows - row >= 2; row += 2) word_tile<2, panels, false>(task, row, panel);
  if (task.rows - row >= 1) word_tile<1, panels, false>(task, row, panel);
}

// Many rows: three by two panels, so that a broadcast activation serves twice; the loads are what limits. Few rows: one
// panel, whose stream is what limits.
#define PANEL_LOOPS(tile)                                                       \
  int64_t panel = 0;                                                            \
  for (; task.rows >= 6 && task.panels - panel >= 2; panel += 2) {              \
    tile<3, 2, true>(task, 0, panel);                                           \
    int64_t row = 3;                                                            \
    for (; task.rows - row >= 3; row += 3) tile<3, 2, false>(task, row, panel); \
    if (task.rows - row == 2) tile<2, 2, false>(task, row, panel);              \
    if (task.rows - row == 1) tile<1, 2, false>(task, row, panel);              \
  }                                                                             \
  for (; panel < task.panels; ++panel) {                                        \
    int64_t row = 0;                                                            \
    for (; task.rows - row >= 4; row += 4) tile<4, 1, true>(task, row, panel);  \
    if (task.rows - row >= 2) tile<2, 1, true>(task, row, panel), row += 2;     \
    if (task.rows - row >= 1) tile<1, 1, true>(task, row, panel);               \
  }

void nibble_panels(const PanelTask& task) { PANEL_LOOPS(nibble_tile) }
void five_panels(const PanelTask& task) { PANEL_LOOPS(five_tile) }
void six_panels(
    const PanelTask& task) {  // by one panel at all times: two would need more registers than there are
  for (int64_t panel = 0; panel < task.panels; ++panel) {
    int64_t row = 0;
    if (task.rows >= 6) six_tile<6, 1, true>(task, 0, panel), row = 6;
    for (; task.rows - row >= 6; row += 6) six_tile<6, 1, false>(task, row, panel);
    if (task.rows - row >= 4) six_tile<4, 1, true>(task, row, panel), row += 4;
    if (task.rows - row >= 2) six_tile<2, 1, true>(task, row, panel), row += 2;
    if (task.rows - row >= 1) six_tile<1, 1, true>(task, row, panel);
  }
}
void code_panels(const PanelTask& task) { PANEL_LOOPS(code_tile) }
void byte_panels(const PanelTask& task) { PANEL_LOOPS(byte_tile) }
void word_panels(const PanelTask& task) {
  int64_t panel = 0;
  for (; task.panels - panel >= 3; panel += 3) word_rows<3>(task, panel);
  if (task.panels - panel >= 2) word_rows<2>(task, panel), panel += 2;
  if (task.panels - panel >= 1) word_rows<1>(task, panel);
}

}  // namespace

const Kernels kAvx512Kernels = {
    "avx512",       nibble_panels, five_panels,  six_panels,   code_panels,    byte_panels,
    word_panels,    float_panels,  rms_norm,     layer_norm,   apply,          gate,
    softcap_values, quantize,      decay_state,  update_state, scan_state,     rotate,
    round_to_bf16,  attend,        attend_float, low_rank,     low_rank_float, round_words,
};

}  // namespace neutrino::compute::cpu
