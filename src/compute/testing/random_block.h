// Quant blocks for tests: random bits, with scales that keep the weights in bounds.
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "compute/dtype.h"

namespace neutrino::compute::testing {

// All types of weights.
inline std::vector<DType> weight_dtypes() {
  std::vector<DType> all;
  for (int64_t i = 0; i < kDTypes; ++i)
    if (static_cast<DType>(i) != DType::i32) all.push_back(static_cast<DType>(i));
  return all;
}

// Where a type keeps its f16 scales, and the largest weight that a scale of one gives.
struct ScaleFields {
  int d;        // byte offset of the scale
  int min;      // byte offset of the f16 that scales the minimums, or is the minimum; -1: none
  float reach;  // largest magnitude of w / d
};

inline ScaleFields scale_fields(DType dtype) {
  switch (dtype) {
    case DType::q8_0: return {0, -1, 128};
    case DType::q4_0: return {0, -1, 8};
    case DType::q4_1: return {0, 2, 15};
    case DType::q5_0: return {0, -1, 16};
    case DType::q5_1: return {0, 2, 31};
    case DType::q2_k: return {80, 82, 15 * 3};
    case DType::q3_k: return {108, -1, 32 * 4};
    case DType::q4_k: return {0, 2, 63 * 15};
    case DType::q5_k: return {0, 2, 63 * 31};
    case DType::q6_k: return {208, -1, 128 * 32};
    case DType::iq4_nl: return {0, -1, 127};
    case DType::iq4_xs: return {0, -1, 32 * 127};
    case DType::iq1_s: return {0, -1, 15 * 1.125f};
    case DType::iq2_xxs:
    case DType::iq2_xs:
    case DType::iq2_s: return {0, -1, 15.5f * 0.25f * 43};
    case DType::iq3_xxs: return {0, -1, 15.5f * 0.5f * 62};
    case DType::iq3_s: return {0, -1, 31 * 15};
    case DType::tq1_0: return {52, -1, 1};
    case DType::tq2_0: return {64, -1, 1};
    default: check(false, "a type with f16 scales at one place"); return {};
  }
}

inline void put16(void* block, int offset, uint16_t value) {
  std::memcpy(static_cast<char*>(block) + offset, &value, sizeof value);
}

// The scales of one block into another.
inline void copy_scales(DType dtype, const void* from, void* to) {
  if (dtype == DType::mxfp4) {
    std::memcpy(to, from, 1);
    return;
  }
  const ScaleFields fields = scale_fields(dtype);
  for (const int at : {fields.d, fields.min})
    if (at >= 0) std::memcpy(static_cast<char*>(to) + at, static_cast<const char*>(from) + at, 2);
}

// iq1_m has its f16 scale in the top four bits of four words.
inline void put_iq1_m_scale(void* block, uint16_t d) {
  for (int i = 0; i < 4; ++i) {
    char* high = static_cast<char*>(block) + 49 + 2 * i;
    *high = static_cast<char>((*high & 0x0F) | (d >> 4 * i & 15) << 4);
  }
}

// One block of `dtype` (one element of a plain type): weights of at most about +-`scale`, of both signs.
inline void random_block(Random& random, DType dtype, float scale, void* block) {
  auto* bytes = static_cast<uint8_t*>(block);
  for (int64_t i = 0; i < dtype_info(dtype).block_bytes; ++i) bytes[i] = static_cast<uint8_t>(random.next());
  const auto value = static_cast<float>(scale * (2 * random.uniform() - 1));
  const auto d = static_cast<float>(scale * (0.2 + 0.8 * random.uniform()));
  switch (dtype) {
    case DType::f32: std::memcpy(block, &value, sizeof value); return;
    case DType::f16: return put16(block, 0, f32_to_f16(value));
    case DType::bf16: return put16(block, 0, f32_to_bf16(value));
    case DType::iq1_m: return put_iq1_m_scale(block, f32_to_f16(d / (15 * 1.125f)));
    case DType::mxfp4: bytes[0] = static_cast<uint8_t>(127 + std::ilogb(d / 6)); return;
    case DType::nvfp4:  // 0.002 to 0.1: below what four bits of exponent reach it is 2^-9
      for (int s = 0; s < 4; ++s) bytes[s] = static_cast<uint8_t>(1 + random.below(8));
      return;
    default: break;
  }
  const ScaleFields fields = scale_fields(dtype);
  put16(block, fields.d, f32_to_f16(d / fields.reach));
  if (fields.min < 0) return;
  // w = d*q - dmin*min in the K types, d*q + m in q4_1 and q5_1: about half of the range is below zero
  const bool k_type = dtype_info(dtype).block == 256;
  const float min_reach = dtype == DType::q2_k ? 15.0f : 63.0f;
  put16(block, fields.min, f32_to_f16(k_type ? d / 2 / min_reach : -d / 2));
}

}  // namespace neutrino::compute::testing
