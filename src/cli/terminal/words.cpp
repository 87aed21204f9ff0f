#include "cli/terminal/words.h"

#include <fmt/chrono.h>

#include <charconv>
#include <cmath>
#include <ctime>
#include <optional>

#include "base/error.h"

namespace neutrino::cli {
namespace {

constexpr int64_t kNanodollars = 1'000'000'000;

struct Unit {
  char letter;
  int64_t ms;
};
constexpr Unit kUnits[] = {
    {'w', 7 * 86'400'000LL}, {'d', 86'400'000}, {'h', 3'600'000}, {'m', 60'000}, {'s', 1000}};

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) || value < 0)
    return std::nullopt;
  return value;
}

std::optional<int64_t> scaled(std::string_view text, int64_t factor) {
  const auto value = number(text);
  if (!value || *value * static_cast<double>(factor) > 9e18) return std::nullopt;
  return static_cast<int64_t>(std::llround(*value * static_cast<double>(factor)));
}

std::optional<int64_t> duration_of(std::string_view text) {
  for (const Unit& unit : kUnits)
    if (text.ends_with(unit.letter)) return scaled(text.substr(0, text.size() - 1), unit.ms);
  return std::nullopt;
}

std::optional<int64_t> date_of(std::string_view text) {
  const std::string whole(text);
  for (const char* format : {"%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S"}) {
    std::tm time{};
    const char* end = ::strptime(whole.c_str(), format, &time);
    if (end && *end == 0) return static_cast<int64_t>(::timegm(&time)) * 1000;
  }
  return std::nullopt;
}

}  // namespace

std::string duration_text(int64_t ms) {
  for (const Unit& unit : kUnits)
    if (unit.letter != 'w' && ms >= unit.ms) return fmt::format("{}{}", ms / unit.ms, unit.letter);
  return "0s";
}

std::string time_text(int64_t at_ms, int64_t now_ms) {
  if (at_ms == 0) return "-";
  const int64_t ago = now_ms - at_ms;
  if (std::abs(ago) < 1000) return "now";
  return ago > 0 ? duration_text(ago) + " ago" : "in " + duration_text(-ago);
}

std::string clock_text(int64_t at_ms) {
  const std::time_t seconds = at_ms / 1000;
  std::tm time{};
  ::gmtime_r(&seconds, &time);
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", time);
}

std::string money_text(int64_t nanodollars) {
  const double dollars = static_cast<double>(nanodollars) / kNanodollars;
  if (nanodollars == 0 || std::abs(dollars) >= 1) return fmt::format("${:.2f}", dollars);
  std::string digits = fmt::format("{:.9f}", dollars);  // exact: a nanodollar is the ninth digit
  const size_t first = digits.find_first_of("123456789");
  digits.resize(std::min(digits.size(), std::max<size_t>(digits.find('.') + 3, first + 2)));
  return "$" + digits;
}

std::string grouped_text(int64_t count) {
  std::string digits = fmt::format("{}", count);
  for (auto i = static_cast<int64_t>(digits.size()) - 3; i > (count < 0 ? 1 : 0); i -= 3)
    digits.insert(static_cast<size_t>(i), ",");
  return digits;
}

int64_t parse_duration(std::string_view what, std::string_view text) {
  if (const auto ms = duration_of(text)) return *ms;
  throw make_error(ErrorCode::invalid_argument,
                   "{} must be a duration such as 90s, 30m, 12h or 7d, got \"{}\"", what, text);
}

int64_t parse_money(std::string_view what, std::string_view text) {
  if (const auto nanodollars = scaled(text.substr(text.starts_with('$') ? 1 : 0), kNanodollars))
    return *nanodollars;
  throw make_error(ErrorCode::invalid_argument, "{} must be an amount such as $20 or 0.5, got \"{}\"", what,
                   text);
}

int64_t parse_moment(std::string_view what, std::string_view text, int64_t now_ms) {
  if (const auto at_ms = date_of(text)) return *at_ms;
  if (const auto ms = duration_of(text)) return now_ms - *ms;
  throw make_error(ErrorCode::invalid_argument,
                   "{} must be a moment such as 2026-11-23, 2026-11-23T01:02:03Z or 24h (ago), got \"{}\"",
                   what, text);
}

}  // namespace neutrino::cli
