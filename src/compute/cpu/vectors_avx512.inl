// The sixteen-lane vectors V (floats) and I (int32) of AVX-512, for rows.inl, attention.inl and their like. Included inside an
// unnamed namespace.

using V = __m512;
using I = __m512i;

constexpr int kAttentionLanes = 2;  // 6 queries x 2 vectors x 2 chains: 24 accumulators of 32 registers
constexpr int kQueryTile = 6;
constexpr int kSoftmaxTile = 4;  // queries whose exponentials run side by side
constexpr int kFloatTile = 4;
constexpr int kLowRankTile = 4, kLowRankPanels = 4;

inline V load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, V v) { _mm512_storeu_ps(p, v); }
inline V splat(float x) { return _mm512_set1_ps(x); }
inline V add(V a, V b) { return _mm512_add_ps(a, b); }
inline V subtract(V a, V b) { return _mm512_sub_ps(a, b); }
inline V multiply(V a, V b) { return _mm512_mul_ps(a, b); }
inline V divide(V a, V b) { return _mm512_div_ps(a, b); }
inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
inline V maximum(V a, V b) { return _mm512_max_ps(a, b); }
inline V minimum(V a, V b) { return _mm512_min_ps(a, b); }
inline V negate(V a) { return _mm512_xor_ps(a, splat(-0.0f)); }
inline V absolute(V a) { return _mm512_abs_ps(a); }
inline V copy_sign(V magnitude, V sign) {
  return _mm512_or_ps(_mm512_andnot_ps(splat(-0.0f), magnitude), _mm512_and_ps(splat(-0.0f), sign));
}
// a < b ? x : y
inline V select_less(V a, V b, V x, V y) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
inline I splat_int(int32_t x) { return _mm512_set1_epi32(x); }
inline I add(I a, I b) { return _mm512_add_epi32(a, b); }
inline I maximum(I a, I b) { return _mm512_max_epi32(a, b); }
inline I to_int(V v) { return _mm512_cvtps_epi32(v); }
inline I shift_right_3(I v) { return _mm512_srai_epi32(v, 3); }
inline V as_floats(I v) { return _mm512_castsi512_ps(v); }
inline I magnitude_bits(V v) { return _mm512_and_si512(_mm512_castps_si512(v), splat_int(0x7FFFFFFF)); }
inline __m256i pack_words(I v) { return _mm512_cvtepi32_epi16(v); }
inline void store_words(int16_t* p, I v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), pack_words(v));
}
// sum += q . v, as an instruction: for the intrinsic, g++ 12 copies its accumulators around and spills a tile of 24.
inline void add_pairs(I& sum, I q, I v) { asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(q), "v"(v)); }
inline V to_floats(I v) { return _mm512_cvtepi32_ps(v); }
// 16 pairs of int8, and sum + pair . x[0..1].
inline I load_pairs(const int8_t* p) {
  return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline I add_pairs(I sum, I w, const int16_t* x) {
  int32_t pair;
  __builtin_memcpy(&pair, x, sizeof pair);
  add_pairs(sum, w, splat_int(pair));
  return sum;
}
inline V exponent_of_low_bits(V v) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(v), splat_int(127)), 23));
}
inline V keep_first(V v, int64_t n) {
  const uint32_t mask = n <= 0 ? 0 : n >= 16 ? 0xFFFF : (1u << n) - 1;
  return _mm512_maskz_mov_ps(static_cast<__mmask16>(mask), v);
}
inline I upper_half(I bits) { return _mm512_and_si512(bits, splat_int(static_cast<int32_t>(0xFFFF0000))); }
inline I add_half(I bits) {  // of the last place kept, less where that place is even
  const I odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), splat_int(1));
  return _mm512_add_epi32(bits, _mm512_add_epi32(odd, splat_int(0x7FFF)));
}
inline V round_bf16(V v) {
  const I bits = _mm512_castps_si512(v);
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  return as_floats(upper_half(_mm512_mask_or_epi32(add_half(bits), nan, bits, splat_int(0x400000))));
}
inline V round_number_bf16(V v) {  // no NaN
  return as_floats(upper_half(add_half(_mm512_castps_si512(v))));
}
// 16 pairs of bfloat16, or of int8 as floats: the first and the second of each.
inline V load_even(const uint16_t* p) { return as_floats(_mm512_slli_epi32(_mm512_loadu_si512(p), 16)); }
inline V load_odd(const uint16_t* p) {
  return as_floats(_mm512_and_si512(_mm512_loadu_si512(p), splat_int(static_cast<int32_t>(0xFFFF0000))));
}
inline I load_words(const int8_t* p) {
  return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline V load_even(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(load_words(p), 24), 24));
}
inline V load_odd(const int8_t* p) { return _mm512_cvtepi32_ps(_mm512_srai_epi32(load_words(p), 8)); }

inline float tree_sum(V v) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}
inline float tree_maximum(V v) { return _mm512_reduce_max_ps(v); }
inline int32_t tree_maximum(I v) { return _mm512_reduce_max_epi32(v); }
