// From texts to ids: open addressing over views, for lookups in the inner loops of tokenizers.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace neutrino::tokenizer {

// The texts must outlive the map.
class TextMap {
 public:
  void reserve(size_t count) {
    slots_.assign(std::bit_ceil(count * 2 + 2), Slot{});
  }  // before the first add()

  bool add(std::string_view text, int32_t id) {  // false: the text is there already
    const uint64_t hash = hash_of(text);
    size_t at = hash & (slots_.size() - 1);
    for (; slots_[at].id >= 0; at = (at + 1) & (slots_.size() - 1))
      if (slots_[at].text == text) return false;
    slots_[at] = {text, static_cast<uint32_t>(hash >> 32), id};
    return true;
  }

  int32_t find(std::string_view text) const {  // -1: not there
    if (slots_.empty()) return -1;
    const uint64_t hash = hash_of(text);
    for (size_t at = hash & (slots_.size() - 1); slots_[at].id >= 0; at = (at + 1) & (slots_.size() - 1))
      if (slots_[at].hash == static_cast<uint32_t>(hash >> 32) && slots_[at].text == text)
        return slots_[at].id;
    return -1;
  }

 private:
  struct Slot {
    std::string_view text;
    uint32_t hash = 0;
    int32_t id = -1;  // -1: free
  };

  // Eight bytes at a time, mixed by multiplication.
  static uint64_t hash_of(std::string_view text) {
    uint64_t hash = text.size() * 0x9E3779B97F4A7C15u;
    size_t at = 0;
    const auto mix = [&](uint64_t part) {
      hash = (hash ^ part) * 0x7FB5D329728EA185u;
      hash ^= hash >> 29;
    };
    for (; at + 8 <= text.size(); at += 8) {
      uint64_t part;
      std::memcpy(&part, text.data() + at, 8);
      mix(part);
    }
    uint64_t part = 0;
    for (int shift = 0; at < text.size(); ++at, shift += 8)
      part |= uint64_t{static_cast<uint8_t>(text[at])} << shift;
    mix(part);
    hash *= 0x81DADEF4BC2DD44Du;
    return hash ^ hash >> 32;
  }

  std::vector<Slot> slots_;  // a power of two, at most half full
};

}  // namespace neutrino::tokenizer
