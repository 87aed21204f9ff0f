#include "cli/terminal/screen.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace neutrino::cli {
namespace {

constexpr std::string_view kEllipsis = "…";

std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

int64_t terminal_columns() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

std::string_view escape_code(Style style) {
  switch (style) {
    case Style::plain: return "";
    case Style::bold: return "\033[1m";
    case Style::dim: return "\033[2m";
    case Style::good: return "\033[32m";
    case Style::warning: return "\033[33m";
    case Style::bad: return "\033[31m";
  }
  return "";
}

// A code point and how many bytes it takes; a byte that begins none is one by itself.
struct CodePoint {
  char32_t value = 0;
  size_t bytes = 1;
};

CodePoint first_of(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
  if (bytes == 1 || bytes > text.size()) return {lead, 1};
  char32_t value = lead & (0xFF >> (bytes + 1));
  for (size_t i = 1; i < bytes; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xC0) != 0x80) return {lead, 1};
    value = value << 6 | (next & 0x3F);
  }
  return {value, bytes};
}

bool is_control(char32_t c) { return c < 0x20 || (c >= 0x7F && c < 0xA0); }
// Marks that turn the direction of text around could make one name look like another.
bool is_direction_mark(char32_t c) {
  return (c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069) || c == 0x200E || c == 0x200F;
}
bool is_combining(char32_t c) {
  return (c >= 0x0300 && c <= 0x036F) || (c >= 0x20D0 && c <= 0x20FF) || (c >= 0xFE00 && c <= 0xFE0F) ||
         c == 0x200B || c == 0x200D;
}
bool is_wide(char32_t c) {
  return (c >= 0x1100 && c <= 0x115F) || (c >= 0x2E80 && c <= 0xA4CF) || (c >= 0xAC00 && c <= 0xD7A3) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0xFE30 && c <= 0xFE6F) || (c >= 0xFF00 && c <= 0xFF60) ||
         (c >= 0x1F300 && c <= 0x1FAFF) || (c >= 0x20000 && c <= 0x3FFFD);
}
int64_t columns_of(char32_t c) { return is_combining(c) ? 0 : is_wide(c) ? 2 : 1; }

}  // namespace

Screen standard_screen() {
  if (!::isatty(STDOUT_FILENO)) return {};
  const bool has_colours = environment("NO_COLOR").empty() && environment("TERM") != "dumb";
  return {.is_terminal = true, .has_colours = has_colours, .columns = terminal_columns()};
}

std::string styled(std::string_view text, Style style, const Screen& screen) {
  if (!screen.has_colours || style == Style::plain) return std::string(text);
  return std::string(escape_code(style)).append(text).append("\033[0m");
}

std::string harmless(std::string_view text, Controls controls) {
  std::string result;
  while (!text.empty()) {
    const CodePoint c = first_of(text);
    const bool kept = controls == Controls::lines && (c.value == '\n' || c.value == '\t');
    const bool stray = c.bytes == 1 && c.value >= 0x80;
    if (kept || !(is_control(c.value) || is_direction_mark(c.value) || stray))
      result += text.substr(0, c.bytes);
    else if (!(controls == Controls::lines && c.value == '\r'))
      result += '?';
    text.remove_prefix(c.bytes);
  }
  return result;
}

int64_t text_width(std::string_view text) {
  int64_t columns = 0;
  while (!text.empty()) {
    const CodePoint c = first_of(text);
    columns += columns_of(c.value);
    text.remove_prefix(c.bytes);
  }
  return columns;
}

std::string cut(std::string_view text, int64_t columns) {
  if (text_width(text) <= columns) return std::string(text);
  std::string result;
  for (int64_t left = columns - 1; !text.empty();) {
    const CodePoint c = first_of(text);
    left -= columns_of(c.value);
    if (left < 0) break;
    result += text.substr(0, c.bytes);
    text.remove_prefix(c.bytes);
  }
  return columns > 0 ? result.append(kEllipsis) : "";
}

}  // namespace neutrino::cli
