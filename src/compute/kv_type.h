// How keys and values stand in the cache in integer arithmetic (float32 arithmetic keeps float32).
//
//   bf16  8 bits of mantissa; what attention multiplies with as it is
//   f16   11 bits; saturates at 65504, and below 2^-14 there is zero
//   q8_0  8-bit integers with a float32 scale for each position's 32 dimensions: x = scale q, scale = largest / 127
//
// A tile of f16 and q8_0 is turned into float32 when it is read, and multiplied in the order that bf16 is.
#pragma once

#include <cstdint>

namespace neutrino::compute {

enum class KvType : uint8_t { bf16, f16, q8_0 };

inline constexpr const char* kKvTypeNames[] = {"bf16", "f16", "q8_0"};  // by the enumerators' values

inline constexpr float kF16Max = 65504.0f, kF16Min = 0x1p-14f;

}  // namespace neutrino::compute
