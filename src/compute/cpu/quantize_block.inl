// Puts 32 activations into their block, for AVX2 and AVX-512: included in front of rows.inl. The words are 16 of a half each.

// The sums of the eight lanes of a, b, c and d.
inline __m128i sums_of(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
  return _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
}

inline void store_block_bytes(int8_t* out, __m256i first, __m256i second) {
  const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(first, second), _MM_SHUFFLE(3, 1, 2, 0));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), bytes);
}

inline HalfSquares put_block(I first, I second, XBlock& block, int16_t* words) {
  const __m256i w0 = pack_words(first), w1 = pack_words(second), ones = _mm256_set1_epi16(1);
  auto* const out = reinterpret_cast<__m256i*>(words);
  _mm256_storeu_si256(out, w0), _mm256_storeu_si256(out + 1, w1);
  const __m256i h0 = _mm256_srai_epi16(w0, 7), h1 = _mm256_srai_epi16(w1, 7);
  const __m256i l0 = _mm256_and_si256(w0, _mm256_set1_epi16(127)),
                l1 = _mm256_and_si256(w1, _mm256_set1_epi16(127));
  store_block_bytes(block.h, h0, h1), store_block_bytes(block.l, l0, l1);
  // h and l of the first half and of the second; then of both.
  const __m128i halves = sums_of(_mm256_madd_epi16(h0, ones), _mm256_madd_epi16(h1, ones),
                                 _mm256_madd_epi16(l0, ones), _mm256_madd_epi16(l1, ones));
  const __m128i both = _mm_hadd_epi32(halves, halves), none = _mm_setzero_si128();
  const __m128i minus_16 = _mm_sub_epi32(none, _mm_slli_epi32(halves, 4));
  const __m128i minus_8 = _mm_sub_epi32(none, _mm_slli_epi32(both, 3));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(&block.minus_8h),
                   _mm_unpacklo_epi32(minus_8, _mm_slli_epi32(both, 16)));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(block.minus_16h), _mm_packs_epi32(minus_16, none));
  const __m256 squares = _mm256_hadd_ps(_mm256_cvtepi32_ps(_mm256_madd_epi16(w0, w0)),
                                        _mm256_cvtepi32_ps(_mm256_madd_epi16(w1, w1)));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(squares), _mm256_extractf128_ps(squares, 1));
  const __m128 two = _mm_hadd_ps(four, four);
  return {_mm_cvtss_f32(two), _mm_cvtss_f32(_mm_movehdup_ps(two))};
}
