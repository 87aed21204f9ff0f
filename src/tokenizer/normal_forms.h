// Unicode's normal forms and lower case.
#pragma once

#include <string>
#include <string_view>

namespace neutrino::tokenizer {

enum class NormalForm { nfc, nfd, nfkc, nfkd };

// Bytes that are not UTF-8 stay as they are.
std::string normal_form(std::string_view text, NormalForm form);

// Character by character, without regard to what stands around.
std::string lower_case(std::string_view text);

void append_utf8_char(char32_t code, std::string& out);

}  // namespace neutrino::tokenizer
