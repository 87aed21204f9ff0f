// Stop strings in a text that comes in pieces.
//
// Each is searched by its Knuth-Morris-Pratt automaton, byte by byte, which also knows how much of the end of the text could
// still become a match.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace neutrino::chat {

class StopStrings {
 public:
  explicit StopStrings(const std::vector<std::string>& stop);  // none of them empty

  // More text. Where a stop string ends in it, the end of the first; search no more then. Of several that end there the
  // longest counts.
  std::optional<size_t> search(std::string_view text);
  const std::string& matched() const { return matched_; }  // the one that was found, or ""
  size_t held_bytes() const;  // at the end of the text, which may still become a stop string
  void reset();               // what comes does not go on with the text before

 private:
  struct Automaton {
    std::string pattern;
    std::vector<int32_t> failure;  // longest proper border of each prefix
    int32_t state = 0;             // bytes of the pattern that the text ends with
    bool step(char byte);          // true: complete
  };
  std::vector<Automaton> automata_;
  std::string matched_;
};

}  // namespace neutrino::chat
