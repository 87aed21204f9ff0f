// The numbers of the arithmetic, shared by the reference and every kernel table. Plain constants only: kernel files, which
// are compiled for one instruction set each, include this and must leave no shared code behind.
#pragma once

#include <cstdint>

namespace neutrino::compute {

// An activation is an integer in [-kActivationMax, kActivationMax]: x = 128 h + l, h in [-127, 127], l in [0, 127].
inline constexpr float kActivationMax = 16256.0f;
// Rows whose largest magnitude is below this are zero: their scale's reciprocal must stay finite.
inline constexpr float kActivationTiny = 1e-30f;

// Sums of floats run in this many lanes (lane = index % 16), then over the tree (8, 4, 2, 1).
inline constexpr int64_t kLanes = 16;

// exp(x) = 2^n exp(r), n = round(x / ln 2), r = x - n ln 2 in two parts; exp(r) is Horner's rule by fma.
inline constexpr float kExpMin = -87.0f, kExpMax = 88.0f;  // keeps 2^n and the result normal
inline constexpr float kLog2E = 1.44269504088896341f;
inline constexpr float kRound = 12582912.0f;     // 1.5 * 2^23: adding it rounds to an integer
inline constexpr float kLn2High = 0.693359375f;  // 9 bits: n * kLn2High is exact
inline constexpr float kLn2Low = -2.12194440054690583e-4f;
inline constexpr float kExpCoefficients[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24,
                                             1.0f / 6,    0.5f,       1.0f,       1.0f};

// Largest head_dim that attention's buffers hold.
inline constexpr int64_t kHeadDimMax = 512;

}  // namespace neutrino::compute
