// Kernels in plain C++, for any CPU: the shared bodies over arrays of sixteen, and integer products that the compiler may
// vectorise as it likes, since their sums are exact.

#include "compute/constants.h"
#include "compute/cpu/kernels.h"

namespace neutrino::compute::cpu {
namespace {

struct V {
  float lane[16];
};
struct I {
  int32_t lane[16];
};

constexpr int kAttentionLanes = 1;
constexpr int kQueryTile = 1;
constexpr int kSoftmaxTile = 1;
constexpr int kFloatTile = 1;
constexpr int kLowRankTile = 1, kLowRankPanels = 1;

template <typename Result, typename F>
inline Result each(F f) {
  Result out;
  for (int i = 0; i < 16; ++i) out.lane[i] = f(i);
  return out;
}
inline uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }
inline float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }

inline V load(const float* p) {
  return each<V>([=](int i) { return p[i]; });
}
inline void store(float* p, const V& v) {
  for (int i = 0; i < 16; ++i) p[i] = v.lane[i];
}
inline V splat(float x) {
  return each<V>([=](int) { return x; });
}
inline V add(const V& a, const V& b) {
  return each<V>([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline V subtract(const V& a, const V& b) {
  return each<V>([&](int i) { return a.lane[i] - b.lane[i]; });
}
inline V multiply(const V& a, const V& b) {
  return each<V>([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline V divide(const V& a, const V& b) {
  return each<V>([&](int i) { return a.lane[i] / b.lane[i]; });
}
inline V fma(const V& a, const V& b, const V& c) {
  return each<V>([&](int i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
}
inline V maximum(const V& a, const V& b) {
  return each<V>([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline V minimum(const V& a, const V& b) {
  return each<V>([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline V negate(const V& a) {
  return each<V>([&](int i) { return -a.lane[i]; });
}
inline V absolute(const V& a) {
  return each<V>([&](int i) { return float_of(bits_of(a.lane[i]) & 0x7FFFFFFFu); });
}
inline V copy_sign(const V& magnitude, const V& sign) {
  return each<V>([&](int i) {
    return float_of((bits_of(magnitude.lane[i]) & 0x7FFFFFFFu) | (bits_of(sign.lane[i]) & 0x80000000u));
  });
}
// a < b ? x : y
inline V select_less(const V& a, const V& b, const V& x, const V& y) {
  return each<V>([&](int i) { return a.lane[i] < b.lane[i] ? x.lane[i] : y.lane[i]; });
}
inline I splat_int(int32_t x) {
  return each<I>([=](int) { return x; });
}
inline I add(const I& a, const I& b) {
  return each<I>([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline V to_floats(const I& a) {
  return each<V>([&](int i) { return static_cast<float>(a.lane[i]); });
}
// 16 pairs of int8, and sum + pair . x[0..1].
struct Pairs {
  const int8_t* at;
};
inline Pairs load_pairs(const int8_t* p) { return {p}; }
inline I add_pairs(const I& sum, Pairs w, const int16_t* x) {
  return each<I>([&](int i) { return sum.lane[i] + w.at[2 * i] * x[0] + w.at[2 * i + 1] * x[1]; });
}
inline I maximum(const I& a, const I& b) {
  return each<I>([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
// Adding 1.5 * 2^23 rounds a number of this size to the nearest integer, ties to even.
inline I to_int(const V& v) {
  return each<I>([&](int i) { return static_cast<int32_t>(bits_of(v.lane[i] + kRound) - bits_of(kRound)); });
}
inline I shift_right_3(const I& v) {
  return each<I>([&](int i) { return v.lane[i] >> 3; });
}
inline V as_floats(const I& v) {
  return each<V>([&](int i) { return __builtin_bit_cast(float, v.lane[i]); });
}
inline I magnitude_bits(const V& v) {
  return each<I>([&](int i) { return static_cast<int32_t>(bits_of(v.lane[i]) & 0x7FFFFFFFu); });
}
inline void store_words(int16_t* p, const I& v) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int16_t>(v.lane[i]);
}
inline V exponent_of_low_bits(const V& v) {
  return each<V>([&](int i) { return float_of((bits_of(v.lane[i]) + 127) << 23); });
}
inline V keep_first(const V& v, int64_t n) {
  return each<V>([&](int i) { return i < n ? v.lane[i] : 0.0f; });
}
inline V round_bf16(const V& v) {
  return each<V>([&](int i) {
    const uint32_t bits = bits_of(v.lane[i]);
    const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    return float_of((nan ? bits | 0x400000u : bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u);
  });
}
inline V round_number_bf16(const V& v) {  // no NaN
  return each<V>([&](int i) {
    const uint32_t bits = bits_of(v.lane[i]);
    return float_of((bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u);
  });
}
// 16 pairs of bfloat16, or of int8 as floats: the first and the second of each.
inline V load_even(const uint16_t* p) {
  return each<V>([=](int i) { return float_of(uint32_t{p[2 * i]} << 16); });
}
inline V load_odd(const uint16_t* p) {
  return each<V>([=](int i) { return float_of(uint32_t{p[2 * i + 1]} << 16); });
}
inline V load_even(const int8_t* p) {
  return each<V>([=](int i) { return static_cast<float>(p[2 * i]); });
}
inline V load_odd(const int8_t* p) {
  return each<V>([=](int i) { return static_cast<float>(p[2 * i + 1]); });
}

template <typename T, typename F>
inline T tree(const T lanes[16], F combine) {
  T value[16];
  for (int i = 0; i < 16; ++i) value[i] = lanes[i];
  for (int step = 8; step > 0; step /= 2)
    for (int i = 0; i < step; ++i) value[i] = combine(value[i], value[i + step]);
  return value[0];
}
inline float tree_sum(const V& v) {
  return tree(v.lane, [](float a, float b) { return a + b; });
}
inline float tree_maximum(const V& v) {
  return tree(v.lane, [](float a, float b) { return a > b ? a : b; });
}
inline int32_t tree_maximum(const I& v) {
  return tree(v.lane, [](int32_t a, int32_t b) { return a > b ? a : b; });
}

inline float put_half(const I& v, int half, XBlock& block, int16_t* words) {
  int32_t h = 0, l = 0;
  float squares = 0;
  for (int i = 0; i < 16; ++i) {
    const int32_t x = v.lane[i];
    block.h[16 * half + i] = static_cast<int8_t>(x >> 7);
    block.l[16 * half + i] = static_cast<int8_t>(x & 127);
    words[16 * half + i] = static_cast<int16_t>(x);
    h += x >> 7, l += x & 127;
    squares += static_cast<float>(x * x);
  }
  block.minus_16h[half] = static_cast<int16_t>(-16 * h);
  block.minus_16l[half] = static_cast<int16_t>(-16 * l);
  block.minus_8h -= 8 * h, block.high_h += h * 65536;
  block.minus_8l -= 8 * l, block.high_l += l * 65536;
  return squares;
}

inline HalfSquares put_block(const I& first, const I& second, XBlock& block, int16_t* words) {
  block.minus_8h = block.high_h = block.minus_8l = block.high_l = 0;
  const float squares = put_half(first, 0, block, words);
  return {squares, put_half(second, 1, block, words)};
}

#include "compute/cpu/rows.inl"
//
#include "compute/cpu/attention.inl"
#include "compute/cpu/float_panels.inl"
#include "compute/cpu/low_rank.inl"
#include "compute/cpu/states.inl"

inline const XBlock* x_blocks(const PanelTask& task, int64_t row) {
  return reinterpret_cast<const XBlock*>(task.x + row * task.x_stride + sizeof(ActivationHeader));
}
inline const int16_t* x_words(const PanelTask& task, int64_t row) {
  return reinterpret_cast<const int16_t*>(x_blocks(task, row) + task.blocks);
}

inline void finish(const PanelTask& task, int64_t row, int64_t panel, const int64_t sums[kPanelRows]) {
  const float scale = reinterpret_cast<const ActivationHeader*>(task.x + row * task.x_stride)->scale;
  float* out = task.out + row * task.out_stride + panel * kPanelRows;
  for (int64_t r = 0; r < kPanelRows; ++r) {
    const float y =
        static_cast<float>(static_cast<double>(sums[r])) * (task.scales[panel * kPanelRows + r] * scale);
    out[r] = task.add ? out[r] + y : y;
  }
}

// Sums of one block: weights [16 rows][32 columns] by x (32), exact in int32 (32 * 2^7 * 2^14). Row by row, for compilers
// know the dot product of int16.
inline void block_sums(const int16_t (*weights)[kColumnBlock], const int16_t* x, int32_t sums[kPanelRows]) {
  for (int64_t r = 0; r < kPanelRows; ++r) {
    int32_t sum = 0;
    for (int64_t k = 0; k < kColumnBlock; ++k) sum += weights[r][k] * x[k];
    sums[r] = sum;
  }
}

constexpr int64_t kRowTile = 8;  // activation rows that share an unpacked block

// q[row][column] = value(nibble, row, column) for the 32 columns of a block.
template <typename F>
inline void unpack_nibbles(const uint8_t* w, F value, int16_t (*q)[kColumnBlock]) {
  for (int64_t r = 0; r < kPanelRows; ++r)
    for (int64_t k = 0; k < 16; ++k) {
      const uint8_t byte = w[k / 4 * 64 + r * 4 + k % 4];
      q[r][k] = static_cast<int16_t>(value(byte & 15, r, k));
      q[r][k + 16] = static_cast<int16_t>(value(byte >> 4, r, k + 16));
    }
}

// totals += e sum(q x) + f sum(x)
inline void add_pairs(const PanelTask& task, int64_t row, int64_t b, const int16_t (*q)[kColumnBlock],
                      const int16_t* ef, int64_t totals[kPanelRows]) {
  const XBlock& x = x_blocks(task, row)[b];
  const int32_t sum_x = 128 * (x.high_h / 65536) + x.high_l / 65536;
  int32_t sums[kPanelRows];
  block_sums(q, x_words(task, row) + b * kColumnBlock, sums);
  for (int64_t r = 0; r < kPanelRows; ++r)
    totals[r] += int64_t{ef[2 * r]} * sums[r] + int64_t{ef[2 * r + 1]} * sum_x;
}

// totals += e sum(q x)
inline void add_block(const PanelTask& task, int64_t row, int64_t b, const int16_t (*q)[kColumnBlock],
                      const float* e, int64_t totals[kPanelRows]) {
  int32_t sums[kPanelRows];
  block_sums(q, x_words(task, row) + b * kColumnBlock, sums);
  for (int64_t r = 0; r < kPanelRows; ++r) totals[r] += static_cast<int64_t>(e[r]) * sums[r];
}

void nibble_tile(const PanelTask& task, int64_t first, int64_t rows, int64_t panel) {
  int64_t totals[kRowTile][kPanelRows] = {};
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t b = 0; b < task.blocks; ++b, w += kNibbleBlockBytes) {
    int16_t q[kPanelRows][kColumnBlock];
    unpack_nibbles(w, [](int nibble, int64_t, int64_t) { return nibble - 8; }, q);
    const auto* ef = reinterpret_cast<const int16_t*>(w + 256);
    for (int64_t m = 0; m < rows; ++m) add_pairs(task, first + m, b, q, ef, totals[m]);
  }
  for (int64_t m = 0; m < rows; ++m) finish(task, first + m, panel, totals[m]);
}

void five_tile(const PanelTask& task, int64_t first, int64_t rows, int64_t panel) {
  int64_t totals[kRowTile][kPanelRows] = {};
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t b = 0; b < task.blocks; ++b, w += kFiveBlockBytes) {
    int16_t q[kPanelRows][kColumnBlock];
    const auto value = [=](int nibble, int64_t r, int64_t k) {
      return (nibble | (w[256 + r * 4 + k % 4] >> k / 4 & 1) << 4) - 16;
    };
    unpack_nibbles(w, value, q);
    const auto* ef = reinterpret_cast<const int16_t*>(w + 320);
    for (int64_t m = 0; m < rows; ++m) add_pairs(task, first + m, b, q, ef, totals[m]);
  }
  for (int64_t m = 0; m < rows; ++m) finish(task, first + m, panel, totals[m]);
}

// s (q - 32) fits int16, and a block's sum of it int32: 2^7 * 2^5 * 16256 * 32 < 2^31.
void six_tile(const PanelTask& task, int64_t first, int64_t rows, int64_t panel) {
  int64_t totals[kRowTile][kPanelRows] = {};
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t b = 0; b < task.blocks; ++b) {
    const uint8_t* run = w + b / kSixBlocks * kSixBlocks * kSixBlockBytes;
    const uint8_t* block = run + b % kSixBlocks * kSixBits;
    const auto* s = reinterpret_cast<const int8_t*>(run + kSixScalesAt + b % kSixBlocks * 32);
    int16_t q[kPanelRows][kColumnBlock];
    const auto value = [=](int nibble, int64_t r, int64_t k) {
      const int high = block[256 + k / 16 * 64 + r * 4 + k % 4] >> k % 16 / 4 * 2 & 3;
      return s[2 * r + k / 16] * ((nibble | high << 4) - 32);
    };
    unpack_nibbles(block, value, q);
    const auto* e = reinterpret_cast<const float*>(run + kSixFactorsAt);
    for (int64_t m = 0; m < rows; ++m) add_block(task, first + m, b, q, e, totals[m]);
  }
  for (int64_t m = 0; m < rows; ++m) finish(task, first + m, panel, totals[m]);
}

void code_tile(const PanelTask& task, int64_t first, int64_t rows, int64_t panel) {
  int64_t totals[kRowTile][kPanelRows] = {};
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t b = 0; b < task.blocks; ++b, w += kCodeBlockBytes) {
    int16_t q[kPanelRows][kColumnBlock];
    unpack_nibbles(w, [&](int nibble, int64_t, int64_t) { return task.codebook[nibble]; }, q);
    const auto* e = reinterpret_cast<const float*>(w + 256);
    for (int64_t m = 0; m < rows; ++m) add_block(task, first + m, b, q, e, totals[m]);
  }
  for (int64_t m = 0; m < rows; ++m) finish(task, first + m, panel, totals[m]);
}

void byte_tile(const PanelTask& task, int64_t first, int64_t rows, int64_t panel) {
  int64_t totals[kRowTile][kPanelRows] = {};
  const uint8_t* w = task.panel + panel * task.panel_bytes;
  for (int64_t b = 0; b < task.blocks; ++b, w += kByteBlockBytes) {
    int16_t q[kPanelRows][kColumnBlock];
    for (int64_t k = 0; k < kColumnBlock; ++k)
      for (int64_t r = 0; r < kPanelRows; ++r)
        q[r][k] = static_cast<int16_t>(w[k / 4 * 64 + r * 4 + k % 4] - 128);
    const auto* e = reinterpret_cast<const float*>(w + 512);
    for (int64_t m = 0; m < rows; ++m) add_block(task, first + m, b, q, e, totals[m]);
  }
  for (int64_t m = 0; m < rows; ++m) finish(task, first + m, panel, totals[m]);
}

// A run of kWordRun columns fits int32.
void word_tile(const PanelTask& task, int64_t first, int64_t rows, int64_t panel) {
  const int64_t columns = task.blocks * kColumnBlock;
  int64_t totals[kRowTile][kPanelRows] = {};
  const auto* w = reinterpret_cast<const int16_t*>(task.panel + panel * task.panel_bytes);
  for (int64_t run = 0; run < columns; run += kWordRun) {
    const int64_t end = columns - run < kWordRun ? columns : run + kWordRun;
    int32_t sums[kRowTile][kPanelRows] = {};
    for (int64_t k = run; k < end; k += 2, w += 2 * kPanelRows)
      for (int64_t m = 0; m < rows; ++m) {
        const int16_t* x = x_words(task, first + m) + k;
        for (int64_t r = 0; r < kPanelRows; ++r) sums[m][r] += w[2 * r] * x[0] + w[2 * r + 1] * x[1];
      }
    for (int64_t m = 0; m < rows; ++m)
      for (int64_t r = 0; r < kPanelRows; ++r) totals[m][r] += sums[m][r];
  }
  for (int64_t m = 0; m < rows; ++m) finish(task, first + m, panel, totals[m]);
}

template <typename Tile>
inline void panel_loops(const PanelTask& task, Tile tile) {
  for (int64_t panel = 0; panel < task.panels; ++panel)
    for (int64_t row = 0; row < task.rows; row += kRowTile)
      tile(task, row, task.rows - row < kRowTile ? task.rows - row : kRowTile, panel);
}

void nibble_panels(const PanelTask& task) { panel_loops(task, nibble_tile); }
void five_panels(const PanelTask& task) { panel_loops(task, five_tile); }
void six_panels(const PanelTask& task) { panel_loops(task, six_tile); }
void code_panels(const PanelTask& task) { panel_loops(task, code_tile); }
void byte_panels(const PanelTask& task) { panel_loops(task, byte_tile); }
void word_panels(const PanelTask& task) { panel_loops(task, word_tile); }

}  // namespace

const Kernels kGenericKernels = {
    "generic",      nibble_panels, five_panels,  six_panels,   code_panels,    byte_panels,
    word_panels,    float_panels,  rms_norm,     layer_norm,   apply,          gate,
    softcap_values, quantize,      decay_state,  update_state, scan_state,     rotate,
    round_to_bf16,  attend,        attend_float, low_rank,     low_rank_float, round_words,
};

}  // namespace neutrino::compute::cpu
