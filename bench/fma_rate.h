// The rate of float32 multiply-adds that one thread reaches with nothing else to do: what arithmetic is measured against.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace neutrino::bench {

constexpr int64_t kFmaRounds = 4096;

// Each returns the operations done (two per multiply-add). Ten chains: latency 4 times two units, with room.
__attribute__((target("avx2,fma"))) inline double fma_vectors(float seed, float& sink) {
  __m256 chains[10];
  for (__m256& chain : chains) chain = _mm256_set1_ps(seed);
  const __m256 factor = _mm256_set1_ps(0.999f), term = _mm256_set1_ps(0.001f);
  for (int64_t i = 0; i < kFmaRounds; ++i)
    for (__m256& chain : chains) chain = _mm256_fmadd_ps(chain, factor, term);
  for (const __m256& chain : chains) sink += _mm256_cvtss_f32(chain);
  return 2.0 * 8 * 10 * kFmaRounds;
}

__attribute__((target("avx512f"))) inline double fma_wide_vectors(float seed, float& sink) {
  __m512 chains[10];
  for (__m512& chain : chains) chain = _mm512_set1_ps(seed);
  const __m512 factor = _mm512_set1_ps(0.999f), term = _mm512_set1_ps(0.001f);
  for (int64_t i = 0; i < kFmaRounds; ++i)
    for (__m512& chain : chains) chain = _mm512_fmadd_ps(chain, factor, term);
  for (const __m512& chain : chains) sink += _mm512_cvtss_f32(chain);
  return 2.0 * 16 * 10 * kFmaRounds;
}

inline double fma_scalars(float seed, float& sink) {
  float chains[10];
  for (float& chain : chains) chain = seed;
  for (int64_t i = 0; i < kFmaRounds; ++i)
    for (float& chain : chains) chain = chain * 0.999f + 0.001f;
  for (const float chain : chains) sink += chain;
  return 2.0 * 10 * kFmaRounds;
}

}  // namespace neutrino::bench
