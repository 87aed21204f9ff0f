#include "cloud/api/field_checks.h"

#include <algorithm>
#include <cmath>

#include "cloud/limits.h"
#include "net/error_body.h"

namespace neutrino::cloud {
namespace {

bool is_lower(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

bool fits(std::string_view text, int64_t bytes_max) { return !text.empty() && std::ssize(text) <= bytes_max; }

}  // namespace

void refuse_field(const std::string& path, std::string_view expected, std::string_view got) {
  throw make_error(ErrorCode::invalid_argument, "{} must be {}, got '{}'", path, expected,
                   net::bounded_text(got, 64))
      .with_param(path);
}

void check_range(const std::string& path, int64_t value, int64_t minimum, int64_t maximum) {
  if (value < minimum || value > maximum)
    refuse_field(path, fmt::format("{} to {}", minimum, maximum), std::to_string(value));
}

void check_number(const std::string& path, double value, double minimum, double maximum) {
  if (!std::isfinite(value) || value < minimum || value > maximum)
    refuse_field(path, fmt::format("{} to {}", minimum, maximum), fmt::format("{}", value));
}

void check_slug(const std::string& path, std::string_view text, int64_t bytes_max) {
  const auto allowed = [](char c) { return is_lower(c) || c == '-'; };
  if (!fits(text, bytes_max) || !std::ranges::all_of(text, allowed) || !is_lower(text.front()) ||
      !is_lower(text.back()))
    refuse_field(path, fmt::format("1-{} lower-case letters, digits and dashes between them", bytes_max),
                 text);
}

void check_name(const std::string& path, std::string_view text, int64_t bytes_max) {
  const auto allowed = [](char c) { return is_lower(c) || c == '-' || c == '_' || c == '.'; };
  if (!fits(text, bytes_max) || !std::ranges::all_of(text, allowed) || !is_lower(text.front()))
    refuse_field(path,
                 fmt::format("1-{} lower-case letters, digits, '.', '_' and '-', the first a letter or digit",
                             bytes_max),
                 text);
}

void check_line(const std::string& path, std::string_view text, int64_t bytes_max) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 127; };
  if (std::ssize(text) > bytes_max || std::ranges::any_of(text, is_control))
    refuse_field(path, fmt::format("at most {} bytes without control characters", bytes_max), text);
}

void check_count(const std::string& path, int64_t count, int64_t maximum) {
  if (count > maximum) refuse_field(path, fmt::format("at most {} elements", maximum), std::to_string(count));
}

void check_limits(const std::string& path, const UseLimits& limits) {
  check_range(path + ".requests_per_minute", limits.requests_per_minute, 0, limits::kAmountMax);
  check_range(path + ".tokens_per_minute", limits.tokens_per_minute, 0, limits::kAmountMax);
  check_range(path + ".concurrency", limits.concurrency, 0, limits::kAmountMax);
  check_count(path + ".addresses", std::ssize(limits.addresses), limits::kAddressRanges);
  for (size_t i = 0; i < limits.addresses.size(); ++i)
    if (!is_address_range(limits.addresses[i]))
      refuse_field(fmt::format("{}.addresses[{}]", path, i), "an address range such as 10.0.0.0/8 or ::1",
                   limits.addresses[i]);
}

}  // namespace neutrino::cloud
