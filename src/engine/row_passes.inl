// The passes over vectors of kFloats floats. Included by each table's file inside its unnamed namespace.

using Floats = float __attribute__((vector_size(4 * kFloats)));
using Ints = int32_t __attribute__((vector_size(4 * kFloats)));
using HalfFloats = float __attribute__((vector_size(2 * kFloats)));
using Doubles = double __attribute__((vector_size(4 * kFloats)));  // half as many as there are Floats
constexpr size_t kLanes = 16, kVectors = kLanes / kFloats;

template <typename V>
inline V load_as(const float* from) {
  V value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}

inline Floats broadcast(float x) {
  Floats value;
  for (size_t i = 0; i < kFloats; ++i) value[i] = x;
  return value;
}

// exp(x) = 2^n exp(r) with |r| <= ln(2)/2: ln(2) in two parts keeps r exact, and a polynomial of degree 6 (Taylor's
// coefficients, adjusted at the end by the interval being small) gives exp(r). Adding 1.5 * 2^23 rounds to an integer.
inline Floats exponential(Floats x) {
  const Floats rounder = broadcast(12582912.0F);
  const Floats shifted = x * broadcast(1.44269504F) + rounder;
  const Floats n = shifted - rounder;
  const Floats r = (x - n * broadcast(0.693359375F)) - n * broadcast(-2.12194440e-4F);
  Floats p = broadcast(1.3888889e-3F);
  p = p * r + broadcast(8.3333333e-3F);
  p = p * r + broadcast(4.1666668e-2F);
  p = p * r + broadcast(1.6666667e-1F);
  p = p * r + broadcast(0.5F);
  p = p * r + broadcast(1.0F);
  p = p * r + broadcast(1.0F);
  const Ints exponent = reinterpret_cast<Ints>(shifted) << 23;  // n in the low bits of the shifted number
  const Floats result = reinterpret_cast<Floats>(reinterpret_cast<Ints>(p) + exponent);
  return x < broadcast(-87.0F) ? broadcast(0.0F) : result;
}

void extents(const float* row, size_t count, float* maxima, float* zeros) {
  Floats largest[kVectors], nothing[kVectors];
  for (size_t j = 0; j < kVectors; ++j)
    largest[j] = broadcast(-__builtin_inff()), nothing[j] = broadcast(0.0F);
  for (size_t i = 0; i < count; i += kLanes)
    for (size_t j = 0; j < kVectors; ++j) {
      const auto x = load_as<Floats>(row + i + kFloats * j);
      largest[j] = x > largest[j] ? x : largest[j];
      nothing[j] += x * broadcast(0.0F);
    }
  __builtin_memcpy(maxima, largest, sizeof largest);
  __builtin_memcpy(zeros, nothing, sizeof nothing);
}

template <bool keep>
void exponentials(const float* row, size_t count, float maximum, float scale, float* sums, float* terms) {
  const Floats top = broadcast(maximum), factor = broadcast(scale);
  Floats lanes[kVectors];
  for (size_t j = 0; j < kVectors; ++j) lanes[j] = broadcast(0.0F);
  for (size_t i = 0; i < count; i += kLanes)
    for (size_t j = 0; j < kVectors; ++j) {
      const Floats term = exponential((load_as<Floats>(row + i + kFloats * j) - top) * factor);
      lanes[j] += term;
      if constexpr (keep) __builtin_memcpy(terms + i + kFloats * j, &term, sizeof term);
    }
  __builtin_memcpy(sums, lanes, sizeof lanes);
}

void exponentials_or_sums(const float* row, size_t count, float maximum, float scale, float* sums,
                          float* terms) {
  if (terms == nullptr)
    exponentials<false>(row, count, maximum, scale, sums, terms);
  else
    exponentials<true>(row, count, maximum, scale, sums, terms);
}

void sums_in_double(const float* row, size_t count, double* sums) {
  constexpr size_t kDoubles = kFloats / 2, kSums = 8 / kDoubles;
  Doubles lanes[kSums];
  for (size_t j = 0; j < kSums; ++j) lanes[j] = Doubles{};
  for (size_t i = 0; i < count; i += 8)
    for (size_t j = 0; j < kSums; ++j)
      lanes[j] += __builtin_convertvector(load_as<HalfFloats>(row + i + kDoubles * j), Doubles);
  __builtin_memcpy(sums, lanes, sizeof lanes);
}

void tiers(const float* row, size_t count, float least, int32_t* counts, float* sums) {
  const Floats bound = broadcast(least);
  Floats masses[kVectors];
  Ints numbers[kVectors];
  for (size_t j = 0; j < kVectors; ++j) masses[j] = broadcast(0.0F), numbers[j] = Ints{};
  for (size_t i = 0; i < count; i += kLanes)
    for (size_t j = 0; j < kVectors; ++j) {
      const auto x = load_as<Floats>(row + i + kFloats * j);
      const Ints in = x >= bound;
      numbers[j] -= in;
      masses[j] += reinterpret_cast<Floats>(reinterpret_cast<Ints>(x) & in);
    }
  __builtin_memcpy(counts, numbers, sizeof numbers);
  __builtin_memcpy(sums, masses, sizeof masses);
}
