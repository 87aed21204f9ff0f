#include "cloud/api/valid_text.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace neutrino::cloud {
namespace {

TEST(ValidText, has_a_replacement_for_each_byte_that_is_no_character) {
  const std::string_view r = "\xEF\xBF\xBD";
  const std::pair<std::string_view, std::string> cases[] = {
      {"", ""},
      {"plain\n", "plain\n"},
      {"gr\xC3\xBC\xC3\x9F", "gr\xC3\xBC\xC3\x9F"},
      {"\xF0\x9F\x8C\x8D", "\xF0\x9F\x8C\x8D"},
      {"a\xFFz", fmt::format("a{}z", r)},
      {"\xC0\x80", fmt::format("{}{}", r, r)},                    // a longer form than needed
      {"\xED\xA0\x80", fmt::format("{}{}{}", r, r, r)},           // half of a surrogate pair
      {"\xF4\x90\x80\x80", fmt::format("{}{}{}{}", r, r, r, r)},  // beyond the last code point
      {"\xE2\x82", fmt::format("{}{}", r, r)},                    // cut off
      {"\xE2\x82z", fmt::format("{}{}z", r, r)},
  };
  for (const auto& [bytes, text] : cases) EXPECT_EQ(valid_text(bytes), text);
}

TEST(ValidText, a_character_that_the_end_cuts_off_is_left_for_later) {
  const std::pair<std::string_view, size_t> cases[] = {
      {"", 0},
      {"ab", 2},
      {"a\xE2\x82\xAC", 4},
      {"a\xE2\x82", 1},
      {"a\xE2", 1},
      {"a\xF0\x9F\x8C", 1},
      {"\xE2\x82", 2},           // nothing would be left: then it is shown as it is
      {"a\x82\x82\x82\x82", 5},  // no character at all
  };
  for (const auto& [bytes, whole] : cases) EXPECT_EQ(whole_characters(bytes), whole) << bytes.size();
}

}  // namespace
}  // namespace neutrino::cloud
