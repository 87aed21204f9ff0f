#include "tokenizer/merges.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/random.h"

namespace neutrino::tokenizer {
namespace {

// What merging means, word for word: the best-ranked pair anywhere, the leftmost of them, until there is none.
std::vector<int32_t> merge_slowly(const MergeTable& table, std::vector<int32_t> symbols) {
  for (;;) {
    size_t best = 0;
    int32_t best_rank = MergeTable::kNone;
    for (size_t i = 0; i + 1 < symbols.size(); ++i)
      if (const int32_t rank = table.find(symbols[i], symbols[i + 1]).rank; rank < best_rank)
        best_rank = rank, best = i;
    if (best_rank == MergeTable::kNone) return symbols;
    symbols[best] = table.find(symbols[best], symbols[best + 1]).result;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

// Tables of any kind, also ones that no training makes, where a merge brings up a better-ranked pair than itself, or where
// several pairs share a rank, as tokens of the same score do.
MergeTable random_table(Random& random, int32_t letters, int32_t merges) {
  MergeTable table;
  std::vector<std::array<int32_t, 3>> rows;
  for (int32_t result = letters; result < letters + merges; ++result)
    rows.push_back(
        {static_cast<int32_t>(random.below(result)), static_cast<int32_t>(random.below(result)), result});
  if (random.chance(0.5)) std::ranges::reverse(rows);
  table.reserve(rows.size());
  const int32_t same = random.chance(0.5) ? 1 : 5;
  for (int32_t rank = 0; const auto& [left, right, result] : rows)
    table.add(left, right, rank++ / same, result);
  return table;
}

TEST(Merges, AreTheSameAsTheDefinitionForAnyTableAndLength) {
  Random random(1);
  for (int round = 0; round < 400; ++round) {
    const int32_t letters = static_cast<int32_t>(random.between(1, 4));
    const MergeTable table = random_table(random, letters, static_cast<int32_t>(random.between(0, 40)));
    std::vector<int32_t> symbols(random.between(0, round % 2 ? 60 : 400));
    for (int32_t& symbol : symbols) symbol = static_cast<int32_t>(random.below(letters));
    const auto expected = merge_slowly(table, symbols);
    symbols.resize(merge_symbols(table, symbols));
    ASSERT_EQ(symbols, expected);
  }
}

TEST(Merges, RefusesAPairTwice) {
  MergeTable table;
  EXPECT_EQ(table.find(1, 2).rank, MergeTable::kNone);
  table.reserve(2);
  EXPECT_TRUE(table.add(1, 2, 0, 3));
  EXPECT_FALSE(table.add(1, 2, 1, 4));
  EXPECT_EQ(table.find(1, 2).result, 3);
  EXPECT_EQ(table.find(2, 1).rank, MergeTable::kNone);
}

}  // namespace
}  // namespace neutrino::tokenizer
