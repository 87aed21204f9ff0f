// Bytes of programs as text that JSON can hold.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace neutrino::cloud {

// How many bytes of `text` are left without a character that its end cuts off. All of it if that would leave nothing.
size_t whole_characters(std::string_view text);

// With U+FFFD in place of each byte that is no part of a UTF-8 character.
std::string valid_text(std::string_view text);

}  // namespace neutrino::cloud
