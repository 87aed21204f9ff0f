// Which tokens a sequence has seen, and how often: what the penalties need.
//
// A small open-addressed table sized for the request when it is made, so that a large vocabulary costs nothing and adding a
// generated token allocates nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace neutrino::engine {

class TokenCounts {
 public:
  struct Entry {
    int32_t token = 0;
    int32_t generated = 0;  // times in the output; 0: only in the prompt
  };

  TokenCounts(std::span<const int32_t> prompt, int64_t max_tokens);
  void add_generated(int32_t token) { ++entry(token).generated; }
  std::span<const Entry> entries() const {
    return entries_;
  }  // distinct tokens, in order of first appearance

 private:
  Entry& entry(int32_t token);

  std::vector<Entry> entries_;
  std::vector<int32_t> slots_;  // index into entries_; -1: empty
};

}  // namespace neutrino::engine
