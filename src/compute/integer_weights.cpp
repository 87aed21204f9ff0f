#include "compute/integer_weights.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "compute/constants.h"
#include "compute/dequantize.h"

namespace neutrino::compute {
namespace {

constexpr int64_t kBlock = 32;

// The real-valued form of a row, before rounding: w = d (q - zero) + m per block, or w itself.
struct RealRow {
  std::vector<double> d, m;  // (blocks)
  std::vector<float> w;      // (columns), dequantised
};

void read_q4(DType dtype, const uint8_t* block, int64_t b, RealRow& real, IntegerRow& out) {
  const int64_t header = dtype == DType::q4_1 ? 4 : 2;
  real.d[b] = load_f16(block);
  real.m[b] = dtype == DType::q4_1 ? load_f16(block + 2) + 8 * real.d[b] : 0;
  for (int64_t j = 0; j < kBlock / 2; ++j) {
    out.q[b * kBlock + j] = block[header + j] & 15;
    out.q[b * kBlock + j + 16] = block[header + j] >> 4;
  }
}

void read_q4_k(const uint8_t* block, int64_t b, RealRow& real, IntegerRow& out) {
  const double d = load_f16(block), dmin = load_f16(block + 2);
  for (int s = 0; s < 8; ++s, ++b) {
    const auto [sc, m] = packed_scale(block + 4, s);
    real.d[b] = d * sc;
    real.m[b] = 8 * real.d[b] - dmin * m;
    for (int64_t l = 0; l < kBlock; ++l)
      out.q[b * kBlock + l] = block[16 + s / 2 * 32 + l] >> 4 * (s % 2) & 15;
  }
}

void read_q8(const uint8_t* block, int64_t b, RealRow& real, IntegerRow& out) {
  real.d[b] = load_f16(block);
  real.m[b] = 0;
  for (int64_t j = 0; j < kBlock; ++j) out.q[b * kBlock + j] = static_cast<int8_t>(block[2 + j]);
}

// A quant block of the file, whose first 32 columns are block `b`.
void read_block(DType dtype, const uint8_t* block, int64_t b, RealRow& real, IntegerRow& out) {
  switch (dtype) {
    case DType::q4_k: return read_q4_k(block, b, real, out);
    case DType::q8_0: return read_q8(block, b, real, out);
    default: return read_q4(dtype, block, b, real, out);
  }
}

void read_row(DType dtype, const void* row, int64_t columns, RealRow& real, IntegerRow& out) {
  const DTypeInfo& info = dtype_info(dtype);
  const int64_t blocks = weight_kind(dtype) == WeightKind::word ? 0 : columns / kBlock;
  real.d.resize(blocks), real.m.resize(blocks), real.w.resize(columns);
  out.e.resize(blocks), out.f.resize(blocks), out.q.resize(columns);
  dequantize_row(dtype, row, columns, real.w.data());
  const auto* bytes = static_cast<const uint8_t*>(row);
  for (int64_t b = 0; b < blocks; b += info.block / kBlock, bytes += info.block_bytes)
    read_block(dtype, bytes, b, real, out);
}

// The first scale to try: what maps the largest value to the largest integer. NaN if a value is not finite.
double first_scale(WeightKind kind, const RealRow& real) {
  double largest = 0;
  bool finite = true;
  const auto take = [&](double value) {
    finite = finite && std::isfinite(value);
    largest = std::max(largest, std::abs(value));
  };
  if (kind != WeightKind::byte)
    for (const float w : real.w) take(w);
  else
    for (const double d : real.d) take(d);
  if (!finite) return std::nan("");
  return largest / (kind == WeightKind::nibble ? 16383 : kind == WeightKind::byte ? 1 << 17 : 32767);
}

bool round_into(double value, double limit, int32_t& out) {
  const double rounded = std::nearbyint(value);
  if (!(std::abs(rounded) <= limit)) return false;
  out = static_cast<int32_t>(rounded);
  return true;
}

// The largest sum of |W| over a run of columns.
double largest_run(const IntegerRow& row) {
  double largest = 0, sum = 0;
  for (size_t i = 0; i < row.q.size(); ++i) {
    if (i % static_cast<size_t>(kWordRun) == 0) sum = 0;
    sum += std::abs(static_cast<double>(row.q[i]));
    largest = std::max(largest, sum);
  }
  return largest;
}

// Rounds the row to multiples of `scale`; false if an integer or the sum of magnitudes is too large for the kernels.
bool round_row(WeightKind kind, const RealRow& real, double scale, IntegerRow& out) {
  const double limit = kind == WeightKind::byte ? 1 << 17 : 32767;
  if (kind == WeightKind::word)
    for (size_t i = 0; i < real.w.size(); ++i)
      if (!round_into(real.w[i] / scale, limit, out.q[i])) return false;
  for (size_t b = 0; b < real.d.size(); ++b)
    if (!round_into(real.d[b] / scale, limit, out.e[b]) || !round_into(real.m[b] / scale, limit, out.f[b]))
      return false;
  if (kind == WeightKind::word) return double{kActivationMax} * largest_run(out) < 0x1p31;
  double sum = 0;
  for (size_t i = 0; i < real.w.size(); ++i)
    sum += std::abs(static_cast<double>(integer_weight(kind, out, static_cast<int64_t>(i))));
  return kind == WeightKind::byte ? 16256 * sum < 0x1p53 : 127 * sum < 0x1p31;
}

void fill_row(IntegerRow& out, float scale) {
  out.scale = scale;
  std::ranges::fill(out.e, 0);
  std::ranges::fill(out.f, 0);
  if (out.e.empty()) std::ranges::fill(out.q, 0);
}

}  // namespace

WeightKind weight_kind(DType dtype) {
  switch (dtype) {
    case DType::q4_0:
    case DType::q4_1:
    case DType::q4_k: return WeightKind::nibble;
    case DType::q8_0: return WeightKind::byte;
    default: check(dtype != DType::i32, "i32 holds no weights"); return WeightKind::word;
  }
}

int32_t integer_weight(WeightKind kind, const IntegerRow& row, int64_t column) {
  const int32_t q = row.q[column];
  if (kind == WeightKind::word) return q;
  const int32_t e = row.e[column / kBlock];
  return kind == WeightKind::byte ? e * q : e * (q - 8) + row.f[column / kBlock];
}

void integer_row(DType dtype, const void* row, int64_t columns, IntegerRow& out) {
  thread_local RealRow real;
  read_row(dtype, row, columns, real, out);
  const WeightKind kind = weight_kind(dtype);
  // The scale is rounded to float32 first: it is what the product is multiplied with.
  const auto scale = static_cast<float>(first_scale(kind, real));
  if (std::isnan(scale) ||
      scale < std::numeric_limits<float>::min())  // below: products of it would be denormal
    return fill_row(out, std::isnan(scale) ? scale : 0.0f);
  out.scale = scale;
  while (!round_row(kind, real, out.scale, out)) out.scale *= 2;
}

}  // namespace neutrino::compute
