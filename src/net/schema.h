// The fields of a request body, described once: type and range checks, the answer to what is not built, and the schema in
// /openapi.json all come from one table per route.
//
// Nothing is dropped silently: a field is honoured, or reported back as ignored, or refused by name.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace neutrino::net {

// A set of JSON types.
enum Types : uint8_t {
  kString = 1,
  kBoolean = 2,
  kInteger = 4,
  kNumber = 8,
  kArray = 16,
  kObject = 32,
  kAny = 63
};

enum class Support : uint8_t {
  honoured,
  reported,     // accepted, has no effect, named in X-Ignored-Params
  unsupported,  // known, not built: a 400, unless the value is one of `neutral`
};

struct Field {
  std::string_view name;
  int types = kAny;  // of Types; null is always as good as absent, unless required
  Support support = Support::honoured;
  bool required = false;
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
  bool above_minimum = false;     // the minimum itself is refused
  std::string_view neutral = {};  // JSON array of the values that ask for nothing
  std::string_view items = {};    // JSON Schema of array elements or of the object, for /openapi.json
};

// Joins tables of fields at compile time.
template <size_t A, size_t B>
constexpr std::array<Field, A + B> join(const std::array<Field, A>& a, const std::array<Field, B>& b) {
  std::array<Field, A + B> all{};
  for (size_t i = 0; i < A; ++i) all[i] = a[i];
  for (size_t i = 0; i < B; ++i) all[A + i] = b[i];
  return all;
}

// Parses a body into an object and checks it against the table. Throws Error{invalid_argument} with reason and param.
// `ignored` gets the names of the fields that have no effect; those that the table does not have are left out of the object, since
// nothing is known of their types.
json::object parse_body(std::string_view body, std::span<const Field> fields,
                        std::vector<std::string>& ignored);

json::object json_schema(std::span<const Field> fields);

// Readers for fields that parse_body() has checked: nullptr and nullopt for absent and null.
const json::value* find(const json::object& object, std::string_view name);
int64_t to_integer(const json::value& value);  // also from a double without a fraction

}  // namespace neutrino::net
