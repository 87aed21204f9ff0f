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

// What a kind's integers are: how many columns share an e, and the largest e or W.
struct KindInfo {
  int64_t columns_of_e;  // 0: there is none
  int64_t columns_of_f;
  int32_t limit;
  bool wide;  // e alone gives the scale, and blocks are summed in float64
};
KindInfo kind_info(WeightKind kind) {
  switch (kind) {
    case WeightKind::nibble:
    case WeightKind::five: return {32, 32, 32767, false};
    case WeightKind::six: return {256, 16, 1 << 17, true};
    case WeightKind::code:
    case WeightKind::byte: return {32, 0, 1 << 17, true};
    case WeightKind::word: break;
  }
  return {0, 0, 32767, false};
}

// The real-valued form of a row, before rounding: w = d (q - zero) + m per block, or w itself.
struct RealRow {
  std::vector<double> d, m;  // for every e; for every f of nibbles and fives
  std::vector<float> w;      // (columns), dequantised
};

// One quant block of the file: its d and m go to the pointers, its q to `out`.
struct BlockTarget {
  double* d;
  double* m;
  int32_t* s;  // six
  int32_t* q;
};

void read_nibbles(const uint8_t* bytes, int32_t* q) {
  for (int64_t j = 0; j < kBlock / 2; ++j) q[j] = bytes[j] & 15, q[j + 16] = bytes[j] >> 4;
}

// q4_0, q4_1: f16 d; q4_1: f16 m; nibbles.
void read_q4(DType dtype, const uint8_t* block, const BlockTarget& to) {
  const bool shifted = dtype == DType::q4_1;
  to.d[0] = load_f16(block);
  to.m[0] = shifted ? load_f16(block + 2) + 8 * to.d[0] : 0;
  read_nibbles(block + (shifted ? 4 : 2), to.q);
}

// q5_0, q5_1: the same, with 32 fifth bits before the nibbles.
void read_q5(DType dtype, const uint8_t* block, const BlockTarget& to) {
  const bool shifted = dtype == DType::q5_1;
  to.d[0] = load_f16(block);
  to.m[0] = shifted ? load_f16(block + 2) + 16 * to.d[0] : 0;
  const uint8_t* bits = block + (shifted ? 4 : 2);
  read_nibbles(bits + 4, to.q);
  const auto high = load<uint32_t>(bits);
  for (int i = 0; i < kBlock; ++i) to.q[i] |= static_cast<int32_t>(high >> i & 1) << 4;
}

// q4_k, q5_k: d sc q - dmin m per 32; q5_k has 32 bytes of fifth bits before the nibbles.
void read_k(DType dtype, const uint8_t* block, const BlockTarget& to) {
  const bool five = dtype == DType::q5_k;
  const double d = load_f16(block), dmin = load_f16(block + 2);
  const uint8_t *high = block + 16, *quants = block + (five ? 48 : 16);
  for (int s = 0; s < 8; ++s) {
    const auto [sc, m] = packed_scale(block + 4, s);
    to.d[s] = d * sc;
    to.m[s] = (five ? 16 : 8) * to.d[s] - dmin * m;
    for (int64_t l = 0; l < kBlock; ++l) {
      const int fifth = five ? (high[l] >> s & 1) << 4 : 0;
      to.q[s * kBlock + l] = (quants[s / 2 * kBlock + l] >> 4 * (s % 2) & 15) | fifth;
    }
  }
}

void read_q6_k(const uint8_t* block, const BlockTarget& to) {
  to.d[0] = load_f16(block + 208);
  for (int s = 0; s < 16; ++s) to.s[s] = static_cast<int8_t>(block[192 + s]);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, k = i % 128 / 32, l = i % 32;
    const int low = block[64 * half + 32 * (k % 2) + l] >> 4 * (k / 2) & 15;
    to.q[i] = low | (block[128 + 32 * half + l] >> 2 * k & 3) << 4;
  }
}

// Per 32: the scale less 32, of four bits and two.
void read_iq4_xs(const uint8_t* block, const BlockTarget& to) {
  const double d = load_f16(block);
  const int high = load<uint16_t>(block + 2);
  for (int s = 0; s < 8; ++s) {
    to.d[s] = d * (((block[4 + s / 2] >> 4 * (s % 2) & 15) | (high >> 2 * s & 3) << 4) - 32);
    read_nibbles(block + 8 + 16 * s, to.q + kBlock * s);
  }
}

// The values are doubled, so the scale is halved.
void read_mxfp4(const uint8_t* block, const BlockTarget& to) {
  to.d[0] = std::ldexp(1.0, block[0] - 128);
  read_nibbles(block + 1, to.q);
}

void read_q8(const uint8_t* block, const BlockTarget& to) {
  to.d[0] = load_f16(block);
  for (int64_t j = 0; j < kBlock; ++j) to.q[j] = static_cast<int8_t>(block[2 + j]);
}

void read_block(DType dtype, const uint8_t* block, const BlockTarget& to) {
  switch (dtype) {
    case DType::q4_0:
    case DType::q4_1: return read_q4(dtype, block, to);
    case DType::q5_0:
    case DType::q5_1: return read_q5(dtype, block, to);
    case DType::q4_k:
    case DType::q5_k: return read_k(dtype, block, to);
    case DType::q6_k: return read_q6_k(block, to);
    case DType::iq4_nl: to.d[0] = load_f16(block); return read_nibbles(block + 2, to.q);
    case DType::iq4_xs: return read_iq4_xs(block, to);
    case DType::mxfp4: return read_mxfp4(block, to);
    case DType::q8_0: return read_q8(block, to);
    default: check(false, "a type whose integers are its own");
  }
}

void read_row(DType dtype, const void* row, int64_t columns, RealRow& real, IntegerRow& out) {
  const KindInfo kind = kind_info(weight_kind(dtype));
  const auto count = [=](int64_t per) { return static_cast<size_t>(per == 0 ? 0 : columns / per); };
  real.w.resize(columns), out.q.resize(columns);
  real.d.resize(count(kind.columns_of_e)), out.e.resize(count(kind.columns_of_e));
  real.m.resize(kind.wide ? 0 : count(kind.columns_of_f)), out.f.resize(count(kind.columns_of_f));
  out.codebook = codebook_of(dtype);
  dequantize_row(dtype, row, columns, real.w.data());
  if (kind.columns_of_e == 0) return;
  const auto* bytes = static_cast<const uint8_t*>(row);
  const DTypeInfo& info = dtype_info(dtype);
  for (int64_t c = 0; c < columns; c += info.block, bytes += info.block_bytes)
    read_block(dtype, bytes,
               {.d = real.d.data() + c / kind.columns_of_e,
                .m = kind.wide ? nullptr : real.m.data() + c / kind.columns_of_f,
                .s = kind.wide && kind.columns_of_f > 0 ? out.f.data() + c / kind.columns_of_f : nullptr,
                .q = out.q.data() + c});
}

// The first scale to try: what maps the largest value to the largest integer. NaN if a value is not finite.
double first_scale(WeightKind kind, const RealRow& real) {
  double largest = 0;
  if (kind_info(kind).wide) {
    for (const double d : real.d) largest = std::isfinite(d) ? std::max(largest, std::abs(d)) : HUGE_VAL;
  } else {
    int32_t bits = 0;  // magnitudes compare as their bits do
    for (const float w : real.w) bits = std::max(bits, __builtin_bit_cast(int32_t, w) & 0x7FFFFFFF);
    largest = bits < 0x7F800000 ? __builtin_bit_cast(float, bits) : HUGE_VAL;
  }
  if (largest == HUGE_VAL) return std::nan("");
  return largest / (kind_info(kind).wide ? 1 << 17 : kind == WeightKind::word ? 32767 : 16383);
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

// Of all |W|, in pieces of 16 columns, which have one e and one f in every kind. A |W| is below 2^30.
int64_t sum_of_magnitudes(WeightKind kind, const IntegerRow& row) {
  constexpr size_t kPiece = 16;
  int64_t sum = 0;
  const auto add = [&](const int32_t* q, auto weight) {
    int64_t piece = 0;
    for (size_t i = 0; i < kPiece; ++i) piece += std::abs(weight(q[i]));
    sum += piece;
  };
  for (size_t i = 0; i < row.q.size(); i += kPiece) {
    const int32_t* q = row.q.data() + i;
    const int32_t e = row.e[kind == WeightKind::six ? i / 256 : i / 32];
    const int32_t f = row.f.empty() ? 0 : row.f[kind == WeightKind::six ? i / 16 : i / 32];
    switch (kind) {
      case WeightKind::nibble: add(q, [=](int32_t v) { return e * (v - 8) + f; }); break;
      case WeightKind::five: add(q, [=](int32_t v) { return e * (v - 16) + f; }); break;
      case WeightKind::six: add(q, [ef = e * f](int32_t v) { return ef * (v - 32); }); break;
      case WeightKind::code: add(q, [&](int32_t v) { return e * row.codebook[v]; }); break;
      case WeightKind::byte: add(q, [=](int32_t v) { return e * v; }); break;
      case WeightKind::word: check(false, "words have sums of runs");
    }
  }
  return sum;
}

// Rounds the row to multiples of `scale`; false if an integer or the sum of magnitudes is too large for the kernels.
bool round_row(WeightKind kind, const RealRow& real, double scale, IntegerRow& out) {
  const KindInfo info = kind_info(kind);
  if (kind == WeightKind::word) {
    for (size_t i = 0; i < real.w.size(); ++i)
      if (!round_into(real.w[i] / scale, info.limit, out.q[i])) return false;
    return double{kActivationMax} * largest_run(out) < 0x1p31;
  }
  for (size_t i = 0; i < real.d.size(); ++i)
    if (!round_into(real.d[i] / scale, info.limit, out.e[i])) return false;
  for (size_t i = 0; i < real.m.size(); ++i)
    if (!round_into(real.m[i] / scale, info.limit, out.f[i])) return false;
  const auto sum = static_cast<double>(sum_of_magnitudes(kind, out));
  return info.wide ? kActivationMax * sum < 0x1p53 : 127 * sum < 0x1p31;
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
    case DType::q5_0:
    case DType::q5_1:
    case DType::q5_k: return WeightKind::five;
    case DType::q6_k: return WeightKind::six;
    case DType::iq4_nl:
    case DType::iq4_xs:
    case DType::mxfp4: return WeightKind::code;
    case DType::q8_0: return WeightKind::byte;
    default: check(dtype != DType::i32, "i32 holds no weights"); return WeightKind::word;
  }
}

const int8_t* codebook_of(DType dtype) {
  if (weight_kind(dtype) != WeightKind::code) return nullptr;
  return dtype == DType::mxfp4 ? kE2m1Doubled : kIq4Values;
}

int32_t integer_weight(WeightKind kind, const IntegerRow& row, int64_t column) {
  const int32_t q = row.q[column];
  switch (kind) {
    case WeightKind::nibble: return row.e[column / 32] * (q - 8) + row.f[column / 32];
    case WeightKind::five: return row.e[column / 32] * (q - 16) + row.f[column / 32];
    case WeightKind::six: return row.e[column / 256] * row.f[column / 16] * (q - 32);
    case WeightKind::code: return row.e[column / 32] * row.codebook[q];
    case WeightKind::byte: return row.e[column / 32] * q;
    case WeightKind::word: break;
  }
  return q;
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
