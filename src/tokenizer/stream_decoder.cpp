#include "tokenizer/stream_decoder.h"

#include <utility>

#include "tokenizer/utf8.h"

namespace neutrino::tokenizer {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Appends whole characters of `bytes` and returns how many bytes were used; the rest begins a character that is unfinished.
size_t append_characters(std::string_view bytes, std::string& out) {
  size_t at = 0, valid_from = 0;
  while (at < bytes.size()) {
    const Utf8Char c = first_char(bytes.substr(at));
    if (c.state != Utf8::valid) out.append(bytes.substr(valid_from, at - valid_from));
    if (c.state == Utf8::incomplete) return at;
    at += c.length;
    if (c.state == Utf8::valid) continue;
    out.append(kReplacement);
    valid_from = at;
  }
  out.append(bytes.substr(valid_from));
  return at;
}

}  // namespace

void append_utf8(std::string& held, std::string_view bytes, std::string& out) {
  // One byte at a time until the character that was begun is decided; it takes three at most.
  while (!held.empty() && !bytes.empty()) {
    held += bytes.front();
    bytes.remove_prefix(1);
    held.erase(0, append_characters(held, out));
  }
  if (!bytes.empty()) held = bytes.substr(append_characters(bytes, out));
}

void StreamDecoder::push(int32_t id, std::string& out) {
  if (skip_special_ && tokenizer_.is_special(id)) return;
  const bool first = std::exchange(start_, TextStart::continued) == TextStart::beginning;
  append_utf8(held_, first ? tokenizer_.bytes_at_start(id) : tokenizer_.bytes(id), out);
}

void StreamDecoder::finish(std::string& out) {
  if (!held_.empty()) out.append(kReplacement);
  held_.clear();
}

}  // namespace neutrino::tokenizer
