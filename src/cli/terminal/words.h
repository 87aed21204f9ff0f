// Numbers as people say them: how long ago, how much money, how many.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace neutrino::cli {

// "3s", "5m", "2h", "4d": rounded down, for tables.
std::string duration_text(int64_t ms);
// "3m ago", "in 2h", "now"; "-" for 0. Unix times in ms.
std::string time_text(int64_t at_ms, int64_t now_ms);
// "2026-11-23 01:02:03" in UTC.
std::string clock_text(int64_t at_ms);
// "$1.23", "$0.000042": of nanodollars, with as many digits as tell it from nothing.
std::string money_text(int64_t nanodollars);
// "12,345".
std::string grouped_text(int64_t count);

// "90s", "30m", "12h", "7d", "2w" in ms. Throws Error{invalid_argument} that names `what`.
int64_t parse_duration(std::string_view what, std::string_view text);
// Nanodollars of "$20", "0.5". Throws Error{invalid_argument} that names `what`.
int64_t parse_money(std::string_view what, std::string_view text);
// A moment: "2026-11-23", "2026-11-23T01:02:03Z", or "24h" ago. Unix ms. Throws Error{invalid_argument}.
int64_t parse_moment(std::string_view what, std::string_view text, int64_t now_ms);

}  // namespace neutrino::cli
