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
      if (const int32_t rank = table.rank(symbols[i], symbols[i + 1]); rank < best_rank)
        best_rank = rank, best = i;
    if (best_rank == MergeTable::kNone) return symbols;
    symbols[best] = table.result(best_rank);
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

// Tables of any kind, also ones that no training makes, where a merge brings up a better-ranked pair than itself.
MergeTable random_table(Random& random, int32_t letters, int32_t merges) {
  MergeTable table;
  std::vector<std::array<int32_t, 3>> rows;
  for (int32_t result = letters; result < letters + merges; ++result)
    rows.push_back(
        {static_cast<int32_t>(random.below(result)), static_cast<int32_t>(random.below(result)), result});
  if (random.chance(0.5)) std::ranges::reverse(rows);
  for (const auto& [left, right, result] : rows) table.add(left, right, result);
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
  EXPECT_TRUE(table.add(1, 2, 3));
  EXPECT_FALSE(table.add(1, 2, 4));
  EXPECT_EQ(table.result(table.rank(1, 2)), 3);
  EXPECT_EQ(table.rank(2, 1), MergeTable::kNone);
}

}  // namespace
}  // namespace neutrino::tokenizer
