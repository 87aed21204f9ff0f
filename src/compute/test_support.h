// Random weights, activations and batches for the backends' tests and the benchmark.
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "base/random.h"
#include "compute/backend.h"

namespace neutrino::compute::testing {

// Calls of operator new in this process so far (allocations_test.cpp; in the test binary only).
int64_t allocations();

struct OwnedMatrix {
  std::vector<std::byte> bytes;
  WeightView view;
};

inline void put16(std::byte* at, uint16_t value) { std::memcpy(at, &value, sizeof value); }

inline float random_normal(Random& random) {
  float sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<float>(random.uniform()) - 0.5f;
  return sum;
}

// Values of about +-0.1; quantised types get random bits and plausible scales.
inline OwnedMatrix random_matrix(DType dtype, int64_t rows, int64_t columns, uint64_t seed) {
  Random random(seed);
  OwnedMatrix out;
  out.bytes.resize(static_cast<size_t>(matrix_bytes(dtype, rows, columns).value()));
  out.view = {.data = out.bytes.data(), .dtype = dtype, .rows = rows, .columns = columns};
  const DTypeInfo& info = dtype_info(dtype);
  for (size_t at = 0; at < out.bytes.size(); at += static_cast<size_t>(info.block_bytes)) {
    std::byte* block = out.bytes.data() + at;
    const float value = random_normal(random) * 0.1f;
    if (info.block > 1)
      for (int64_t i = 2; i < info.block_bytes; ++i) block[i] = static_cast<std::byte>(random.next());
    const auto step = static_cast<float>(0.002 + 0.01 * random.uniform());
    switch (dtype) {
      case DType::f32: std::memcpy(block, &value, sizeof value); break;
      case DType::f16: put16(block, f32_to_f16(value)); break;
      case DType::bf16: put16(block, f32_to_bf16(value)); break;
      case DType::q8_0: put16(block, f32_to_f16(step / 16)); break;
      case DType::q4_0: put16(block, f32_to_f16(step)); break;
      case DType::q4_1:
        put16(block, f32_to_f16(step)), put16(block + 2, f32_to_f16(-8 * step + value / 8));
        break;
      case DType::i32: break;
    }
  }
  return out;
}

inline std::vector<float> random_floats(int64_t count, uint64_t seed, float scale = 1.0f) {
  Random random(seed);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& value : out) value = random_normal(random) * scale;
  return out;
}

inline Tensor view_of(std::vector<float>& values, int64_t rows, int64_t columns) {
  return {.data = values.data(), .rows = rows, .columns = columns, .stride = columns};
}

struct RopeValues {
  std::vector<float> cosine, sine;
  RopeTable table;
};

inline RopeValues rope_values(int64_t positions, int64_t rotary_dim, RopePairs pairs) {
  RopeValues out;
  for (int64_t p = 0; p < positions; ++p)
    for (int64_t i = 0; i < rotary_dim / 2; ++i) {
      const double angle = static_cast<double>(p) *
                           std::pow(1e4, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
      out.cosine.push_back(static_cast<float>(std::cos(angle)));
      out.sine.push_back(static_cast<float>(std::sin(angle)));
    }
  out.table = {.cosine = out.cosine,
               .sine = out.sine,
               .positions = positions,
               .rotary_dim = rotary_dim,
               .pairs = pairs};
  return out;
}

}  // namespace neutrino::compute::testing
