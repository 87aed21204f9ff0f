// Checks of single fields of a body. All throw Error{invalid_argument, param: the field's path} with what was expected.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "cloud/route_table.h"

namespace neutrino::cloud {

[[noreturn]] void refuse_field(const std::string& path, std::string_view expected, std::string_view got);

void check_range(const std::string& path, int64_t value, int64_t minimum, int64_t maximum);
void check_number(const std::string& path, double value, double minimum, double maximum);  // and finite
// Lower-case letters, digits and dashes, the first and last none of these dashes.
void check_slug(const std::string& path, std::string_view text, int64_t bytes_max);
// As people call endpoints, keys, secrets: lower-case letters, digits, '.', '_', '-'; the first a letter or digit.
void check_name(const std::string& path, std::string_view text, int64_t bytes_max);
// A line of text: no control characters. May be empty.
void check_line(const std::string& path, std::string_view text, int64_t bytes_max);
void check_count(const std::string& path, int64_t count, int64_t maximum);  // of an array's elements
void check_limits(const std::string& path, const UseLimits& limits);

}  // namespace neutrino::cloud
