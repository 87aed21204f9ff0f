#include "tokenizer/charsmap.h"

#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace neutrino::tokenizer {
namespace {

constexpr size_t kClusterBytes = 6;  // longer clusters are looked up character by character

class Charsmap {
 public:
  explicit Charsmap(std::string_view bytes) {
    uint32_t size = 0;
    if (bytes.size() >= sizeof size) std::memcpy(&size, bytes.data(), sizeof size);
    if (size == 0 || size % 4 != 0 || bytes.size() < 4 || size > bytes.size() - 4)
      throw make_error(ErrorCode::invalid_argument,
                       "the precompiled charsmap must begin with the size of its trie, got {} of {} bytes",
                       size, bytes.size())
          .with_reason("charsmap");
    units_ = bytes.substr(4, size);
    texts_ = bytes.substr(4 + size);
  }

  // The replacement for the shortest key that `text` begins with.
  std::optional<std::string_view> find(std::string_view text) const {
    uint32_t at = 0, unit = read(0);
    at ^= offset(unit);
    for (const char c : text) {
      const auto byte = static_cast<uint8_t>(c);
      at ^= byte;
      if (at >= units_.size() / 4 || byte == 0) return std::nullopt;
      unit = read(at);
      if ((unit & 0x800000FF) != byte) return std::nullopt;
      at ^= offset(unit);
      if (at >= units_.size() / 4) return std::nullopt;
      if (unit >> 8 & 1) return text_at(read(at) & 0x7FFFFFFF);
    }
    return std::nullopt;
  }

 private:
  uint32_t read(uint32_t at) const {
    uint32_t unit;
    std::memcpy(&unit, units_.data() + size_t{at} * 4, sizeof unit);
    return unit;
  }
  static uint32_t offset(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }

  std::optional<std::string_view> text_at(uint32_t at) const {
    if (at >= texts_.size()) return std::nullopt;
    const size_t end = texts_.find('\0', at);
    return texts_.substr(at, end == texts_.npos ? end : end - at);
  }

  std::string_view units_, texts_;
};

// Bytes of the first grapheme cluster, as far as clusters of less than six bytes go.
size_t cluster_length(std::string_view text) {
  Utf8Char c = first_char(text);
  if (text.starts_with("\r\n")) return 2;
  uint32_t traits = char_traits(c.code);
  size_t length = c.length;
  while (length < text.size() && length < 2 * kClusterBytes && !(traits & kGraphemeControl)) {
    const Utf8Char next = first_char(text.substr(length));
    const uint32_t next_traits = char_traits(next.code);
    const bool joined =
        (next_traits & kGraphemeExtend) || ((traits & kGraphemePrepend) && !(next_traits & kGraphemeControl));
    if (!joined) break;
    length += next.length;
    traits = next_traits;
  }
  return length;
}

}  // namespace

void check_charsmap(std::string_view charsmap) { Charsmap{charsmap}; }

std::string apply_charsmap(std::string_view charsmap, std::string_view text) {
  const Charsmap map(charsmap);
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t cluster = cluster_length(text);
    if (cluster < kClusterBytes) {
      if (const auto replacement = map.find(text.substr(0, cluster))) {
        out.append(*replacement);
        text.remove_prefix(cluster);
        continue;
      }
    }
    for (size_t end = cluster; end > 0;) {
      const size_t length = first_char(text).length;
      const std::string_view one = text.substr(0, length);
      out.append(map.find(one).value_or(one));
      text.remove_prefix(length);
      end -= std::min(end, length);
    }
  }
  return out;
}

}  // namespace neutrino::tokenizer
