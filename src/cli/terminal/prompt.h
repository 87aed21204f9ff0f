// Asking a person.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace neutrino::cli {

// A secret: typed without being shown where standard input is a terminal, else all of standard input but for one line end at its
// end. Throws Error{invalid_argument} where it is empty or longer than `bytes_max`.
std::string read_secret(std::string_view prompt, size_t bytes_max);

}  // namespace neutrino::cli
