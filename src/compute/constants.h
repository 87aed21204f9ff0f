// The numbers of the arithmetic, shared by the reference and every kernel table. Plain constants only: kernel files, which
// are compiled for one instruction set each, include this and must leave no shared code behind.
#pragma once

#include <cstdint>

namespace neutrino::compute {

// An activation is an integer in [-kActivationMax, kActivationMax]: x = 128 h + l, h in [-127, 127], l in [0, 127].
inline constexpr float kActivationMax = 16256.0f;
// Rows whose largest magnitude is below this are zero: their scale's reciprocal must stay finite.
inline constexpr float kActivationTiny = 1e-30f;

// Weights as words: 16256 times the sum of |W| over each run of this many columns is below 2^31, so that a run is summed in
// int32.
inline constexpr int64_t kWordRun = 128;

// An adapter's weights in integer arithmetic: int8, with one float scale for each run of this many terms.
inline constexpr int64_t kLowRankRun = 128;

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

// tanh(x): up to kTanhSmall x + x^3 P(x^2), above (1 - e) / (1 + e) with e = exp(-2|x|).
inline constexpr float kTanhSmall = 0.625f;
inline constexpr float kTanhCoefficients[] = {-0.00570495193824172f, 0.02063906192779541f,
                                              -0.05373970791697502f, 0.13331441581249237f,
                                              -0.3333328068256378f};

// The normal distribution's upper tail, erfc(t / sqrt(2)) / 2 = exp(-t^2 / 2) P(1 / (1 + kTailStep t)) for t >= 0: P is a
// minimax fit to 6e-8 of the tail.
inline constexpr float kTailMax =
    13.0f;  // beyond, the tail's value there: e = exp(-t^2 / 2) must stay normal
inline constexpr float kTailStep = 0.3f;
inline constexpr float kTailCoefficients[] = {
    0.038311656564474106f, -0.16884179413318634f, 0.22798913717269897f,
    -0.07573781907558441f, 0.14200359582901f,     0.09491059184074402f,
    0.12186209857463837f,  0.11949587613344193f,  6.6867246459878515e-06f};

// swiglu_oai's bounds of gate and up, and its sigmoid's steepness.
inline constexpr float kSwigluLimit = 7.0f, kSwigluSteepness = 1.702f;

// gelu_tanh(x) = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
inline constexpr float kGeluRoot = 0.7978845608028654f, kGeluCube = 0.044715f;

// log(1 + y) = 2 atanh(s), s = y / (2 + y), for y in [0, 1]: the odd series to s^17.
inline constexpr float kLog1pCoefficients[] = {2.0f / 17, 2.0f / 15, 2.0f / 13, 2.0f / 11, 2.0f / 9,
                                               2.0f / 7,  2.0f / 5,  2.0f / 3,  2.0f};

// Largest key and value that attention's buffers hold: DeepSeek's latent attention has keys of 512 + 64.
inline constexpr int64_t kHeadDimMax = 576;

}  // namespace neutrino::compute
