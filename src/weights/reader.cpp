#include "weights/reader.h"

#include <algorithm>

namespace neutrino::weights {
namespace {

bool is_printable(char c) { return c > ' ' && c <= '~'; }

}  // namespace

std::string printable(std::string_view text, size_t characters_max) {
  std::string shown;
  for (const char c : text.substr(0, characters_max)) shown += is_printable(c) || c == ' ' ? c : '?';
  return text.size() > characters_max ? shown + "..." : shown;
}

std::string in_quotes(std::string_view text) { return fmt::format("\"{}\"", printable(text, 80)); }

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "(";
  for (const int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + ")";
}

bool is_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_printable);
}

}  // namespace neutrino::weights
