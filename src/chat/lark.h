// Texts of Lark grammars as llguidance reads them.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace neutrino::chat {

using SpecialTokens = std::map<std::string, int32_t, std::less<>>;  // markup that is one token, and its id

std::string lark_string(std::string_view text);  // "text", quoted
std::string regex_text(
    std::string_view text);  // a regular expression for just this text, for use between slashes
std::string lark_regex(std::string_view regex);  // /regex/

// A text in which what is a special token comes as that token. Empty for an empty text.
std::string lark_sequence(std::string_view text, const SpecialTokens& special);

}  // namespace neutrino::chat
