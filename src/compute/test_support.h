// Random weights, activations and batches for the backends' tests and the benchmark.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "compute/backend.h"
#include "compute/testing/random_block.h"

namespace neutrino::compute::testing {

// Calls of operator new in this process so far (allocations_test.cpp; in the test binary only).
int64_t allocations();

struct OwnedMatrix {
  std::vector<std::byte> bytes;
  WeightView view;
};

inline float random_normal(Random& random) {
  float sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<float>(random.uniform()) - 0.5f;
  return sum;
}

// Values of at most about +-0.1, in the type's own layout.
inline OwnedMatrix random_matrix(DType dtype, int64_t rows, int64_t columns, uint64_t seed) {
  Random random(seed);
  OwnedMatrix out;
  out.bytes.resize(static_cast<size_t>(matrix_bytes(dtype, rows, columns).value()));
  out.view = {.data = out.bytes.data(), .dtype = dtype, .rows = rows, .columns = columns};
  const auto block_bytes = static_cast<size_t>(dtype_info(dtype).block_bytes);
  for (size_t at = 0; at < out.bytes.size(); at += block_bytes)
    random_block(random, dtype, 0.1f, out.bytes.data() + at);
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

// ---- backends

inline constexpr Arithmetic kArithmetics[] = {Arithmetic::integer, Arithmetic::float32};

// The kernel tables to test: this CPU's, and "amx_emulated" where it has AVX-512 (cpu/kernels_amx_test.cpp; in the test binary
// only, as is a backend on one of them).
std::vector<std::string_view> every_table();
std::unique_ptr<Backend> cpu(std::string_view table, Arithmetic arithmetic, int64_t threads = 2);

inline std::unique_ptr<Backend> reference(Arithmetic arithmetic) {
  auto backend = make_reference_backend(arithmetic);
  backend->reserve(64 << 20);
  backend->begin_step({});
  return backend;
}

inline std::vector<float> copy(const Tensor& x) {
  std::vector<float> out;
  for (int64_t r = 0; r < x.rows; ++r) out.insert(out.end(), x.row(r), x.row(r) + x.columns);
  return out;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

inline std::unique_ptr<Matrix> identity_matrix(Backend& backend, int64_t columns) {
  OwnedMatrix identity = random_matrix(DType::f32, columns, columns, 0);
  auto* w = reinterpret_cast<float*>(identity.bytes.data());
  for (int64_t i = 0; i < columns * columns; ++i) w[i] = i % (columns + 1) == 0 ? 1.0f : 0.0f;
  return backend.load_matrix({&identity.view, 1});
}

// The values behind an activation, by a product with the identity.
inline std::vector<float> values_of(Backend& backend, const Activation& x) {
  return copy(backend.matmul(x, *identity_matrix(backend, x.columns)));
}

}  // namespace neutrino::compute::testing
