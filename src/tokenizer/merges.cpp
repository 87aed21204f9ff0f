#include "tokenizer/merges.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

namespace neutrino::tokenizer {
namespace {

constexpr size_t kShort = 48;  // up to here a plain scan for the minimum beats any structure

size_t merge_short(const MergeTable& table, std::span<int32_t> symbols) {
  std::array<int32_t, kShort> ranks;  // [i]: of the pair (i, i + 1)
  size_t count = symbols.size();
  for (size_t i = 0; i + 1 < count; ++i) ranks[i] = table.rank(symbols[i], symbols[i + 1]);
  while (count > 1) {
    const size_t best = std::min_element(ranks.begin(), ranks.begin() + count - 1) - ranks.begin();
    if (ranks[best] == MergeTable::kNone) break;
    symbols[best] = table.result(ranks[best]);
    std::copy(symbols.begin() + best + 2, symbols.begin() + count, symbols.begin() + best + 1);
    if (best + 2 < count)
      std::copy(ranks.begin() + best + 2, ranks.begin() + count - 1, ranks.begin() + best + 1);
    --count;
    if (best > 0) ranks[best - 1] = table.rank(symbols[best - 1], symbols[best]);
    if (best + 1 < count) ranks[best] = table.rank(symbols[best], symbols[best + 1]);
  }
  return count;
}

// Long pieces: a linked list of symbols, and for each rank the places where such a pair waits. A run of one letter has few
// distinct pairs, so the map stays tiny and each place is touched a constant number of times.
class LongMerger {
 public:
  LongMerger(const MergeTable& table, std::span<int32_t> symbols)
      : table_(table), symbols_(symbols), nodes_(symbols.size()) {
    const int32_t count = static_cast<int32_t>(symbols.size());
    for (int32_t i = 0; i < count; ++i) nodes_[i] = {i - 1, i + 1 < count ? i + 1 : -1, MergeTable::kNone};
    for (int32_t i = 0; i < count; ++i) offer(i);
  }

  size_t run() {
    while (!waiting_.empty()) {
      const int32_t rank = waiting_.begin()->first;
      Places& places = waiting_.begin()->second;
      places.sort();
      // A merge may bring up a better pair than this one (in no vocabulary that was trained): then that goes first.
      while (places.next < places.at.size() && waiting_.begin()->first == rank)
        merge(places.at[places.next++], rank);
      if (places.next == places.at.size()) waiting_.erase(rank);
    }
    return compact();
  }

 private:
  struct Node {
    int32_t previous, next;  // -1: none
    int32_t rank;            // of the pair that begins here
  };
  struct Places {
    std::vector<int32_t> at;
    size_t next = 0;
    bool sorted = true;
    void push(int32_t place) {
      sorted = sorted && (next == at.size() || at.back() < place);
      at.push_back(place);
    }
    void sort() {
      if (!std::exchange(sorted, true)) std::sort(at.begin() + static_cast<ptrdiff_t>(next), at.end());
    }
  };

  void offer(int32_t place) {
    Node& node = nodes_[place];
    node.rank = node.next < 0 ? MergeTable::kNone : table_.rank(symbols_[place], symbols_[node.next]);
    if (node.rank != MergeTable::kNone) waiting_[node.rank].push(place);
  }

  void merge(int32_t place, int32_t rank) {
    Node& node = nodes_[place];
    if (node.rank != rank) return;  // one of the two has been merged with another since
    symbols_[place] = table_.result(rank);
    Node& gone = nodes_[node.next];
    gone.rank = MergeTable::kNone;
    node.next = gone.next;
    if (node.next >= 0) nodes_[node.next].previous = place;
    offer(place);
    if (node.previous >= 0) offer(node.previous);
  }

  size_t compact() {
    size_t count = 0;
    for (int32_t i = 0; i >= 0; i = nodes_[i].next) symbols_[count++] = symbols_[i];
    return count;
  }

  const MergeTable& table_;
  std::span<int32_t> symbols_;
  std::vector<Node> nodes_;
  std::map<int32_t, Places> waiting_;
};

uint64_t pair_key(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

}  // namespace

void MergeTable::reserve(size_t count) {
  ranks_.reserve(count);
  results_.reserve(count);
}

bool MergeTable::add(int32_t left, int32_t right, int32_t result) {
  if (!ranks_.emplace(pair_key(left, right), static_cast<int32_t>(results_.size())).second) return false;
  results_.push_back(result);
  return true;
}

int32_t MergeTable::rank(int32_t left, int32_t right) const {
  const auto found = ranks_.find(pair_key(left, right));
  return found == ranks_.end() ? kNone : found->second;
}

size_t merge_symbols(const MergeTable& table, std::span<int32_t> symbols) {
  if (symbols.size() <= kShort) return merge_short(table, symbols);
  return LongMerger(table, symbols).run();
}

}  // namespace neutrino::tokenizer
