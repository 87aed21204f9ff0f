// A trie over the bytes of token texts: all tokens that a text begins with, shortest first, in one walk.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace neutrino::tokenizer {

class Trie {
 public:
  // The texts need not outlive it. Of equal texts the first counts; empty ones are left out.
  explicit Trie(std::vector<std::pair<std::string_view, int32_t>> tokens = {}) {
    std::ranges::stable_sort(tokens, {}, [](const auto& token) { return token.first; });
    build(tokens);
  }

  // Calls visit(length, id) for each token that `text` begins with.
  template <typename Visit>
  void prefixes(std::string_view text, const Visit& visit) const {
    int32_t node = 0;
    for (size_t at = 0; at < text.size(); ++at) {
      node = child(node, static_cast<uint8_t>(text[at]));
      if (node < 0) return;
      if (ids_[static_cast<size_t>(node)] >= 0) visit(at + 1, ids_[static_cast<size_t>(node)]);
    }
  }

 private:
  // Nodes are numbered by breadth, so that the children of a node stand side by side: labels_[i] leads to node i + 1.
  int32_t child(int32_t node, uint8_t byte) const {
    if (node == 0) return root_[byte];
    const auto first = static_cast<size_t>(first_child_[static_cast<size_t>(node)]);
    const auto last = static_cast<size_t>(first_child_[static_cast<size_t>(node) + 1]);
    const uint8_t* labels = labels_.data();
    for (size_t i = first; i < last; ++i)
      if (labels[i] >= byte) return labels[i] == byte ? static_cast<int32_t>(i) : -1;
    return -1;
  }

  void build(const std::vector<std::pair<std::string_view, int32_t>>& tokens) {
    struct Range {
      size_t first, last, depth;
    };
    std::fill(std::begin(root_), std::end(root_), -1);
    std::vector<Range> open{{0, tokens.size(), 0}};  // by node
    labels_.push_back(0);
    ids_.push_back(-1);
    for (size_t node = 0; node < open.size(); ++node) {
      auto [first, last, depth] = open[node];
      first_child_.push_back(static_cast<int32_t>(open.size()));
      while (first < last && tokens[first].first.size() == depth) {
        if (depth > 0 && ids_[node] < 0) ids_[node] = tokens[first].second;
        ++first;
      }
      while (first < last) {
        const auto byte = static_cast<uint8_t>(tokens[first].first[depth]);
        size_t end = first;
        while (end < last && static_cast<uint8_t>(tokens[end].first[depth]) == byte) ++end;
        if (node == 0) root_[byte] = static_cast<int32_t>(open.size());
        labels_.push_back(byte);
        ids_.push_back(-1);
        open.push_back({first, end, depth + 1});
        first = end;
      }
    }
    first_child_.push_back(static_cast<int32_t>(open.size()));
  }

  int32_t root_[256];
  std::vector<uint8_t> labels_;       // by node: the byte that leads to it
  std::vector<int32_t> first_child_;  // by node, and one more
  std::vector<int32_t> ids_;          // by node: the token that ends there, or -1
};

}  // namespace neutrino::tokenizer
