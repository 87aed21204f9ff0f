#include "tokenizer/merges.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <map>
#include <queue>
#include <utility>

namespace neutrino::tokenizer {
namespace {

constexpr size_t kShort = 48;  // up to here a plain scan for the minimum beats any structure

size_t merge_short(const MergeTable& table, std::span<int32_t> symbols) {
  std::array<int32_t, kShort> ranks, results;  // [i]: of the pair (i, i + 1)
  size_t count = symbols.size();
  const auto look_up = [&](size_t i) {
    const MergeTable::Merge merge = table.find(symbols[i], symbols[i + 1]);
    ranks[i] = merge.rank, results[i] = merge.result;
  };
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    const size_t best = static_cast<size_t>(
        std::min_element(ranks.begin(), ranks.begin() + static_cast<ptrdiff_t>(count) - 1) - ranks.begin());
    if (ranks[best] == MergeTable::kNone) break;
    symbols[best] = results[best];
    for (size_t i = best + 1; i + 1 < count; ++i) {
      symbols[i] = symbols[i + 1];
      if (i + 2 < count) ranks[i] = ranks[i + 1], results[i] = results[i + 1];
    }
    --count;
    if (best > 0) look_up(best - 1);
    if (best + 1 < count) look_up(best);
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
      rank_ = waiting_.begin()->first;
      Places& places = waiting_.begin()->second;
      places.sort();
      // A merge may bring up a better pair than this one (in no vocabulary that was trained): then that goes first.
      while (!places.empty() && waiting_.begin()->first == rank_) merge(places.pop(), rank_);
      if (places.empty()) waiting_.erase(rank_);
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
    std::priority_queue<int32_t, std::vector<int32_t>, std::greater<>>
        late;  // came up while this rank was merged

    void push(int32_t place) {
      sorted = sorted && (next == at.size() || at.back() < place);
      at.push_back(place);
    }
    void sort() {
      if (!std::exchange(sorted, true)) std::sort(at.begin() + static_cast<ptrdiff_t>(next), at.end());
    }
    bool empty() const { return next == at.size() && late.empty(); }
    int32_t pop() {  // the leftmost
      if (late.empty() || (next < at.size() && at[next] < late.top())) return at[next++];
      const int32_t place = late.top();
      late.pop();
      return place;
    }
  };

  void offer(int32_t place) {
    Node& node = nodes_[place];
    node.rank = node.next < 0 ? MergeTable::kNone : table_.find(symbols_[place], symbols_[node.next]).rank;
    if (node.rank == MergeTable::kNone) return;
    if (node.rank == rank_)
      waiting_[rank_].late.push(place);
    else
      waiting_[node.rank].push(place);
  }

  void merge(int32_t place, int32_t rank) {
    Node& node = nodes_[place];
    if (node.rank != rank) return;  // one of the two has been merged with another since
    symbols_[place] = table_.find(symbols_[place], symbols_[node.next]).result;
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
  int32_t rank_ = -1;  // that is being merged
};

uint64_t pair_key(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

}  // namespace

void MergeTable::reserve(size_t count) { slots_.assign(std::bit_ceil(count * 2 + 2), {kEmpty, {kNone, 0}}); }

// The pairs come from a file: mixed, so that it cannot easily choose them to collide.
size_t MergeTable::slot_of(uint64_t pair) const {
  uint64_t key = (pair ^ (pair >> 31)) * 0x7FB5D329728EA185u;
  key = (key ^ (key >> 27)) * 0x81DADEF4BC2DD44Du;
  size_t slot = (key ^ (key >> 33)) & (slots_.size() - 1);
  while (slots_[slot].pair != pair && slots_[slot].pair != kEmpty) slot = (slot + 1) & (slots_.size() - 1);
  return slot;
}

bool MergeTable::add(int32_t left, int32_t right, int32_t rank, int32_t result) {
  Slot& slot = slots_[slot_of(pair_key(left, right))];
  if (slot.pair != kEmpty) return false;
  slot = {pair_key(left, right), {rank, result}};
  return true;
}

MergeTable::Merge MergeTable::find(int32_t left, int32_t right) const {
  if (slots_.empty()) return {kNone, 0};
  return slots_[slot_of(pair_key(left, right))].merge;
}

size_t merge_symbols(const MergeTable& table, std::span<int32_t> symbols) {
  if (symbols.size() <= kShort) return merge_short(table, symbols);
  return LongMerger(table, symbols).run();
}

}  // namespace neutrino::tokenizer
