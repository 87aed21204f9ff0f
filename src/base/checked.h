// Checked arithmetic for sizes that come from files and requests: every sum and product of such numbers goes through here,
// so that an overflow is an answer and never a small allocation.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>

namespace neutrino {

template <typename T>
std::optional<T> checked_add(T a, T b) {
  T result;
  if (__builtin_add_overflow(a, b, &result)) return std::nullopt;
  return result;
}

template <typename T>
std::optional<T> checked_mul(T a, T b) {
  T result;
  if (__builtin_mul_overflow(a, b, &result)) return std::nullopt;
  return result;
}

template <typename To, typename From>
std::optional<To> checked_cast(From value) {
  To result = static_cast<To>(value);
  if (static_cast<From>(result) != value) return std::nullopt;
  if constexpr (std::is_signed_v<To> != std::is_signed_v<From>) {
    if ((result < To{}) != (value < From{})) return std::nullopt;
  }
  return result;
}

// Rounds up to a multiple of `alignment`, a power of two.
inline std::optional<uint64_t> checked_align(uint64_t value, uint64_t alignment) {
  const auto padded = checked_add(value, alignment - 1);
  if (!padded) return std::nullopt;
  return *padded & ~(alignment - 1);
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace neutrino
