// Ternary types: 256 weights of -1, 0 or 1, times one f16.
#include "compute/dequantize.h"

namespace neutrino::compute {
namespace {

// A byte holds five digits to base three as a fraction: its value is ceil(256 * n / 243), and digit p of n is what
// 3^p * byte (modulo 256) has left of the point after one more multiplication by three.
constexpr uint8_t kPowers[] = {1, 3, 9, 27, 81};

float trit(uint8_t byte, int power) {
  const auto shifted = static_cast<uint8_t>(byte * kPowers[power]);
  return static_cast<float>((shifted * 3 >> 8) - 1);
}

float* take_trits(const uint8_t* bytes, int count, int powers, float d, float* out) {
  for (int p = 0; p < powers; ++p)
    for (int i = 0; i < count; ++i) *out++ = d * trit(bytes[i], p);
  return out;
}

}  // namespace

// uint8 q[48]; uint8 qh[4]; f16 d. Bytes 0-31 hold weights 0-159, 32-47 hold 160-239 (five each), qh the rest (four each).
void dequantize_tq1_0(const uint8_t* block, float* out) {
  const float d = load_f16(block + 52);
  out = take_trits(block, 32, 5, d, out);
  out = take_trits(block + 32, 16, 5, d, out);
  take_trits(block + 48, 4, 4, d, out);
}

// uint8 q[64]; f16 d.  w = d*(q-1), two bits each, in the order of q2_k.
void dequantize_tq2_0(const uint8_t* block, float* out) {
  const float d = load_f16(block + 64);
  for (int i = 0; i < 256; ++i)
    out[i] = d * static_cast<float>((block[32 * (i / 128) + i % 32] >> 2 * (i % 128 / 32) & 3) - 1);
}

}  // namespace neutrino::compute
