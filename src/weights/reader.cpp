#include "weights/reader.h"

#include <algorithm>

namespace neutrino::weights {
namespace {

bool is_printable(char c) { return c > ' ' && c <= '~'; }

}  // namespace

std::string in_quotes(std::string_view text) {
  constexpr size_t kShown = 80;
  std::string shown = "\"";
  for (const char c : text.substr(0, kShown)) shown += is_printable(c) || c == ' ' ? c : '?';
  return shown + (text.size() > kShown ? "...\"" : "\"");
}

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "(";
  for (const int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + ")";
}

bool is_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_printable);
}

}  // namespace neutrino::weights
