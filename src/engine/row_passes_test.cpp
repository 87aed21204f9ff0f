#include "engine/row_passes.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include "base/random.h"

namespace neutrino::engine {
namespace {

struct Results {
  std::array<float, 16> maxima, zeros, sums, sums_alone, masses;
  std::array<int32_t, 16> counts;
  std::array<double, 8> doubles;
  std::vector<float> terms;
};

Results run(const RowPasses& passes, const std::vector<float>& row) {
  Results r;
  r.terms.resize(row.size());
  passes.extents(row.data(), row.size(), r.maxima.data(), r.zeros.data());
  passes.exponentials(row.data(), row.size(), 9.5F, 0.8F, r.sums.data(), r.terms.data());
  passes.exponentials(row.data(), row.size(), 9.5F, 0.8F, r.sums_alone.data(), nullptr);
  passes.sums_in_double(r.terms.data(), row.size(), r.doubles.data());
  passes.tiers(r.terms.data(), row.size(), 0.01F, r.counts.data(), r.masses.data());
  return r;
}

template <typename T>
bool same(const T& a, const T& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0);
}

TEST(RowPasses, EveryWidthHasTheSameBits) {
  if (!__builtin_cpu_supports("avx2")) return;  // then there is nothing to compare with
  Random random(1);
  for (const size_t count : {0U, 16U, 48U, 4096U}) {
    std::vector<float> row(count);
    for (float& x : row) x = static_cast<float>(random.uniform() * 120 - 110);
    if (count == 48) row[5] = -std::numeric_limits<float>::infinity();
    const Results a = run(kGenericPasses, row), b = run(kAvx2Passes, row);
    EXPECT_TRUE(same(a.maxima, b.maxima) && same(a.sums, b.sums) && same(a.sums_alone, b.sums) &&
                same(a.doubles, b.doubles) && same(a.counts, b.counts) && same(a.masses, b.masses) &&
                same(a.terms, b.terms))
        << count;
    EXPECT_EQ(count == 48, a.zeros[5] != 0 && b.zeros[5] != 0) << "only there is something not finite";
  }
}

}  // namespace
}  // namespace neutrino::engine
