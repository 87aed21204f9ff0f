#include "compute/quantize.h"

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "compute/quantize_blocks.h"
#include "compute/quantize_fit.h"

namespace neutrino::compute {
namespace {

using fit::Integers;

void store16(uint8_t* at, uint16_t value) { std::memcpy(at, &value, sizeof value); }

// The f16 nearest to a value, and those beside it.
struct Near {
  uint16_t bits[3];
};
Near near_f16(float value) {
  const uint16_t bits = f32_to_f16(value), magnitude = bits & 0x7FFF;
  return {{bits, static_cast<uint16_t>(magnitude > 0 ? bits - 1 : bits),
           static_cast<uint16_t>(magnitude < 0x7BFF ? bits + 1 : bits)}};
}

// The scale that puts the largest magnitude on the level `last`.
float obvious_scale(const float* x, float last) {
  const auto [low, high] = std::minmax_element(x, x + 32);
  return (-*low > *high ? *low : *high) / last;
}

// Stores the best scale as f16, rounded to the neighbour that leaves the smallest error, and returns what a reader will see. The
// obvious scale takes part: rounding may turn what the search won by into a loss.
template <class Levels>
float store_scale(uint8_t* at, const float* x, float last, std::initializer_list<fit::Candidates> tried) {
  float w[32], best = 0, best_error = INFINITY;
  fit::scale_importance<Levels, 32>(x, w);
  for (const float d : {fit::best_scale<Levels, 32>(x, w, tried), obvious_scale(x, last)})
    for (const uint16_t bits : near_f16(d).bits) {
      const float error = fit::scale_error<Levels, 32>(x, w, f16_to_f32(bits));
      if (!(error < best_error)) continue;
      best = f16_to_f32(bits), best_error = error;
      store16(at, bits);
    }
  return best;
}

// Code i goes to the low nibble of byte i, code i + 16 to the high one.
template <class Levels>
void store_nibbles(const float* x, float d, uint8_t* out) {
  const float inverse = fit::inverse_of(d);
  for (int j = 0; j < 16; ++j)
    out[j] = static_cast<uint8_t>(Levels::code(Levels::nearest(x[j] * inverse)) |
                                  Levels::code(Levels::nearest(x[j + 16] * inverse)) << 4);
}

// ---- one scale

void quantize_q8_0(const float* x, uint8_t* block) {
  using Levels = Integers<-127, 127>;
  const float d = store_scale<Levels>(block, x, 127, {{126.0f, 0.1f, 15}});
  const float inverse = fit::inverse_of(d);
  for (int i = 0; i < 32; ++i)
    block[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(Levels::nearest(x[i] * inverse)));
}

// The levels reach further on the negative side: the largest magnitude may stand there, with a negative scale, or not.
void quantize_q4_0(const float* x, uint8_t* block) {
  using Levels = Integers<-8, 7>;
  const float d = store_scale<Levels>(block, x, -8, {{-9.0f, 0.1f, 36}, {5.5f, 0.1f, 25}});
  store_nibbles<Levels>(x, d, block + 2);
}

// `codes`: 32 of five bits. High bits as a uint32, then nibbles.
void store_five_bits(const int* codes, uint8_t* high, uint8_t* nibbles) {
  uint32_t bits = 0;
  for (int i = 0; i < 32; ++i) bits |= static_cast<uint32_t>(codes[i] >> 4) << i;
  std::memcpy(high, &bits, sizeof bits);
  for (int j = 0; j < 16; ++j) nibbles[j] = static_cast<uint8_t>((codes[j] & 15) | (codes[j + 16] & 15) << 4);
}

void quantize_q5_0(const float* x, uint8_t* block) {
  using Levels = Integers<-16, 15>;
  const float d = store_scale<Levels>(block, x, -16, {{-17.0f, 0.1f, 41}, {12.5f, 0.1f, 33}});
  const float inverse = fit::inverse_of(d);
  int codes[32];
  for (int i = 0; i < 32; ++i) codes[i] = Levels::code(Levels::nearest(x[i] * inverse));
  store_five_bits(codes, block + 2, block + 6);
}

void quantize_iq4_nl(const float* x, uint8_t* block) {
  const float d = store_scale<fit::Iq4Levels>(block, x, -127, {{-140.0f, 2.0f, 30}, {80.0f, 2.0f, 30}});
  store_nibbles<fit::Iq4Levels>(x, d, block + 2);
}

// ---- a scale and an offset

// Stores scale and offset as f16, in the same way; `codes` are the nearest to what a reader will see.
template <int high>
void quantize_line(const float* x, uint8_t* block, int* codes) {
  float w[32], best_error = INFINITY;
  fit::importance<32>(x, w);
  const auto [low, top] = std::minmax_element(x, x + 32);
  fit::Line best{0, 0};
  for (const fit::Line line :
       {fit::best_line<high, 32>(x, w, fit::Offset::any), fit::Line{(*top - *low) / high, *low}})
    for (const uint16_t d : near_f16(line.scale).bits)
      for (const uint16_t m : near_f16(line.offset).bits) {
        const fit::Line trial{f16_to_f32(d), f16_to_f32(m)};
        const float error = fit::line_error<high, 32>(x, w, trial);
        if (!(error < best_error)) continue;
        best = trial, best_error = error;
        store16(block, d), store16(block + 2, m);
      }
  const float inverse = fit::inverse_of(best.scale);
  for (int i = 0; i < 32; ++i)
    codes[i] = static_cast<int>(Integers<0, high>::nearest((x[i] - best.offset) * inverse));
}

void quantize_q4_1(const float* x, uint8_t* block) {
  int codes[32];
  quantize_line<15>(x, block, codes);
  for (int j = 0; j < 16; ++j) block[4 + j] = static_cast<uint8_t>(codes[j] | codes[j + 16] << 4);
}

void quantize_q5_1(const float* x, uint8_t* block) {
  int codes[32];
  quantize_line<31>(x, block, codes);
  store_five_bits(codes, block + 4, block + 8);
}

// ---- a power of two

// Around the exponent that lets the largest value fit: one less clips it, which is better where it stands alone.
void quantize_mxfp4(const float* x, uint8_t* block) {
  float w[32];
  fit::importance<32>(x, w);
  const float largest = fit::largest_magnitude(x, 32);
  const int fitting = largest > 0 ? std::ilogb(largest) - 2 + 127 : 0;
  float best = INFINITY, best_scale = 0;
  for (int e = std::max(fitting - 1, 0); e <= std::clamp(fitting + 1, 0, 254); ++e) {
    const auto half_scale = __builtin_bit_cast(float, e < 2 ? 0x00200000u << e : uint32_t(e - 1) << 23);
    const float error = fit::scale_error<fit::E2m1Levels, 32>(x, w, half_scale);
    if (!(error < best)) continue;
    best = error, best_scale = half_scale, block[0] = static_cast<uint8_t>(e);
  }
  store_nibbles<fit::E2m1Levels>(x, best_scale, block + 1);
}

using BlockQuantizer = void (*)(const float* x, uint8_t* block);

BlockQuantizer quantizer(DType dtype) {
  switch (dtype) {
    case DType::q8_0: return quantize_q8_0;
    case DType::q4_0: return quantize_q4_0;
    case DType::q4_1: return quantize_q4_1;
    case DType::q5_0: return quantize_q5_0;
    case DType::q5_1: return quantize_q5_1;
    case DType::q4_k: return quantize_q4_k;
    case DType::q5_k: return quantize_q5_k;
    case DType::q6_k: return quantize_q6_k;
    case DType::iq4_nl: return quantize_iq4_nl;
    case DType::iq4_xs: return quantize_iq4_xs;
    case DType::mxfp4: return quantize_mxfp4;
    default: return nullptr;
  }
}

bool is_plain(DType dtype) { return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16; }

void convert_plain(DType dtype, const float* row, int64_t columns, uint8_t* out) {
  if (dtype == DType::f32) std::memcpy(out, row, static_cast<size_t>(columns) * sizeof(float));
  if (dtype == DType::f16)
    for (int64_t i = 0; i < columns; ++i) store16(out + 2 * i, f32_to_f16(row[i]));
  if (dtype == DType::bf16)
    for (int64_t i = 0; i < columns; ++i) store16(out + 2 * i, f32_to_bf16(row[i]));
}

// Backends leave flush-to-zero on in their threads; weights are quantised in the default mode everywhere.
class DefaultFloatMode {
 public:
  DefaultFloatMode() { std::fegetenv(&old_), std::fesetenv(FE_DFL_ENV); }
  ~DefaultFloatMode() { std::fesetenv(&old_); }

 private:
  std::fenv_t old_;
};

}  // namespace

bool can_quantize_to(DType dtype) { return is_plain(dtype) || quantizer(dtype) != nullptr; }

// f16 ends at 65504, and a block's f16 scale is at least a part of its largest value. A power of two reaches as far as float32, but
// the search adds up cubes.
float largest_weight(DType dtype) {
  switch (dtype) {
    case DType::f32: return std::numeric_limits<float>::max();
    case DType::bf16: return 0x1.FEp127f;
    case DType::mxfp4: return 1e12f;
    default: return 65504.0f;
  }
}

int64_t quantize_weights(DType dtype, const float* row, int64_t columns, void* out) {
  check(can_quantize_to(dtype) && row_bytes(dtype, columns).has_value(),
        "quantize_weights: a type that is written, and whole quant blocks");
  const DefaultFloatMode mode;
  const float limit = largest_weight(dtype);
  for (int64_t i = 0; i < columns; ++i)
    if (!(std::abs(row[i]) <= limit)) return i;
  auto* bytes = static_cast<uint8_t*>(out);
  if (is_plain(dtype)) return convert_plain(dtype, row, columns, bytes), -1;
  const DTypeInfo& info = dtype_info(dtype);
  const BlockQuantizer quantize = quantizer(dtype);
  for (int64_t i = 0; i < columns; i += info.block, bytes += info.block_bytes) quantize(row + i, bytes);
  return -1;
}

}  // namespace neutrino::compute
