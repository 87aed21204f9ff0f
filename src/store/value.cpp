#include "store/value.h"

#include "base/error.h"

namespace neutrino::store {
namespace {

// How many bytes the UTF-8 sequence at the front of `text` has; 0 if there is none (overlong, surrogate, cut off).
size_t sequence_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto continues = [&](size_t i) { return i < text.size() && (byte(i) & 0xC0) == 0x80; };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if (!continues(1) || !continues(2)) return 0;
    if ((first == 0xE0 && byte(1) < 0xA0) || (first == 0xED && byte(1) > 0x9F)) return 0;
    return 3;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    if ((first == 0xF0 && byte(1) < 0x90) || (first == 0xF4 && byte(1) > 0x8F)) return 0;
    return 4;
  }
  return 0;
}

[[noreturn]] void wrong_kind(std::string_view what, std::string_view expected, const Value& got) {
  static constexpr std::string_view kKinds[] = {"nothing", "an integer", "a number", "a text"};
  throw make_error(ErrorCode::data_loss, "{} should hold {}, but holds {}", what, expected,
                   kKinds[got.index()]);
}

}  // namespace

bool is_storable_text(std::string_view text) {
  while (!text.empty()) {
    const size_t length = sequence_length(text);
    if (length == 0 || text.front() == '\0') return false;
    text.remove_prefix(length);
  }
  return true;
}

int64_t as_integer(const Value& value, std::string_view what) {
  if (const auto* integer = std::get_if<int64_t>(&value)) return *integer;
  wrong_kind(what, "an integer", value);
}

double as_number(const Value& value, std::string_view what) {
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* integer = std::get_if<int64_t>(&value)) return static_cast<double>(*integer);
  wrong_kind(what, "a number", value);
}

const std::string& as_text(const Value& value, std::string_view what) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  wrong_kind(what, "a text", value);
}

}  // namespace neutrino::store
