#include "compute/dequantize.h"

#include "base/error.h"

namespace neutrino::compute {
namespace {

// Blocks of 32 weights. Byte j of the nibbles holds element j (low) and j + 16 (high); a fifth bit stands in qh, bit j of it for
// element j.
//   q8_0: f16 d; int8 q[32]                    w = d*q
//   q4_0: f16 d; uint8 q[16]                   w = d*(q-8)
//   q4_1: f16 d; f16 m; uint8 q[16]            w = d*q + m
//   q5_0: f16 d; uint32 qh; uint8 q[16]        w = d*(q-16)
//   q5_1: f16 d; f16 m; uint32 qh; uint8 q[16] w = d*q + m

void dequantize_q8_0(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(block[2 + i]));
}

void dequantize_q4_0(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>((block[2 + j] & 15) - 8);
    out[j + 16] = d * static_cast<float>((block[2 + j] >> 4) - 8);
  }
}

void dequantize_q4_1(const uint8_t* block, float* out) {
  const float d = load_f16(block), m = load_f16(block + 2);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(block[4 + j] & 15) + m;
    out[j + 16] = d * static_cast<float>(block[4 + j] >> 4) + m;
  }
}

int fifth_bit(uint32_t high, int element) { return static_cast<int>(high >> element & 1) << 4; }

void dequantize_q5_0(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const auto high = load<uint32_t>(block + 2);
  for (int j = 0; j < 16; ++j) {
    const int q = block[6 + j];
    out[j] = d * static_cast<float>(((q & 15) | fifth_bit(high, j)) - 16);
    out[j + 16] = d * static_cast<float>((q >> 4 | fifth_bit(high, j + 16)) - 16);
  }
}

void dequantize_q5_1(const uint8_t* block, float* out) {
  const float d = load_f16(block), m = load_f16(block + 2);
  const auto high = load<uint32_t>(block + 4);
  for (int j = 0; j < 16; ++j) {
    const int q = block[8 + j];
    out[j] = d * static_cast<float>((q & 15) | fifth_bit(high, j)) + m;
    out[j + 16] = d * static_cast<float>(q >> 4 | fifth_bit(high, j + 16)) + m;
  }
}

// MXFP4: uint8 e (E8M0); uint8 q[16]. w = 2^(e-127) * E2M1(q). The table is doubled, so the scale is halved, and may be
// subnormal: 0xFF gives 2^127 here, where E8M0 says NaN, as ggml has it.
void dequantize_mxfp4(const uint8_t* block, float* out) {
  const uint32_t e = block[0];
  const auto half_scale = __builtin_bit_cast(float, e < 2 ? 0x00200000u << e : (e - 1) << 23);
  for (int j = 0; j < 16; ++j) {
    out[j] = half_scale * static_cast<float>(kE2m1Doubled[block[1 + j] & 15]);
    out[j + 16] = half_scale * static_cast<float>(kE2m1Doubled[block[1 + j] >> 4]);
  }
}

// NVFP4: 64 weights; uint8 d[4] (E4M3 without a sign); uint8 q[32], 8 of them per sub-block of 16.
// w = E4M3(d) * E2M1(q); a tensor of its own (".scale") holds a factor for the whole matrix. 0x7F is zero as in ggml.
void dequantize_nvfp4(const uint8_t* block, float* out) {
  for (int s = 0; s < 4; ++s) {
    const int exponent = block[s] >> 3 & 15, mantissa = block[s] & 7;
    const float magnitude = exponent == 0 ? static_cast<float>(mantissa) * 0x1p-9f
                                          : (1 + static_cast<float>(mantissa) / 8) *
                                                __builtin_bit_cast(float, uint32_t(exponent + 120) << 23);
    const float d = block[s] == 0x7F ? 0.0f : magnitude * 0.5f;
    for (int j = 0; j < 8; ++j) {
      const int q = block[4 + 8 * s + j];
      out[16 * s + j] = d * static_cast<float>(kE2m1Doubled[q & 15]);
      out[16 * s + j + 8] = d * static_cast<float>(kE2m1Doubled[q >> 4]);
    }
  }
}

BlockDequantizer dequantizer(DType dtype) {
  switch (dtype) {
    case DType::q8_0: return dequantize_q8_0;
    case DType::q4_0: return dequantize_q4_0;
    case DType::q4_1: return dequantize_q4_1;
    case DType::q5_0: return dequantize_q5_0;
    case DType::q5_1: return dequantize_q5_1;
    case DType::q2_k: return dequantize_q2_k;
    case DType::q3_k: return dequantize_q3_k;
    case DType::q4_k: return dequantize_q4_k;
    case DType::q5_k: return dequantize_q5_k;
    case DType::q6_k: return dequantize_q6_k;
    case DType::iq4_nl: return dequantize_iq4_nl;
    case DType::iq4_xs: return dequantize_iq4_xs;
    case DType::mxfp4: return dequantize_mxfp4;
    case DType::nvfp4: return dequantize_nvfp4;
    case DType::iq1_s: return dequantize_iq1_s;
    case DType::iq1_m: return dequantize_iq1_m;
    case DType::iq2_xxs: return dequantize_iq2_xxs;
    case DType::iq2_xs: return dequantize_iq2_xs;
    case DType::iq2_s: return dequantize_iq2_s;
    case DType::iq3_xxs: return dequantize_iq3_xxs;
    case DType::iq3_s: return dequantize_iq3_s;
    case DType::tq1_0: return dequantize_tq1_0;
    case DType::tq2_0: return dequantize_tq2_0;
    case DType::f32:
    case DType::f16:
    case DType::bf16:
    case DType::i32: break;
  }
  check(false, "dequantize_row: i32 holds no weights");
  return nullptr;
}

}  // namespace

void dequantize_row(DType dtype, const void* row, int64_t columns, float* out) {
  check(row_bytes(dtype, columns).has_value(), "dequantize_row: columns must be whole quant blocks");
  const auto* bytes = static_cast<const uint8_t*>(row);
  switch (dtype) {
    case DType::f32: std::memcpy(out, bytes, static_cast<size_t>(columns) * sizeof(float)); return;
    case DType::f16:
      for (int64_t i = 0; i < columns; ++i) out[i] = load_f16(bytes + 2 * i);
      return;
    case DType::bf16:
      for (int64_t i = 0; i < columns; ++i) out[i] = bf16_to_f32(load<uint16_t>(bytes + 2 * i));
      return;
    default: break;
  }
  const BlockDequantizer dequantize = dequantizer(dtype);
  const DTypeInfo& info = dtype_info(dtype);
  for (int64_t i = 0; i < columns; i += info.block, bytes += info.block_bytes) dequantize(bytes, out + i);
}

}  // namespace neutrino::compute
