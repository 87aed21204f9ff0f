#include "compute/sizing_backend.h"

#include <gtest/gtest.h>

#include "compute/test_support.h"

namespace neutrino::compute {
namespace {

TEST(SizingBackend, PredictsWhatTheCpuBackendHoldsOfEveryType) {
  for (const Arithmetic arithmetic : testing::kArithmetics) {
    const auto backend = testing::cpu("", arithmetic, 1);
    for (const DType dtype : testing::weight_dtypes()) {
      const testing::OwnedMatrix w = testing::random_matrix(dtype, 32, 512, 1);
      const auto sizing = make_sizing_backend(arithmetic);
      const int64_t predicted = sizing->load_matrix({&w.view, 1})->bytes();
      EXPECT_EQ(predicted, backend->load_matrix({&w.view, 1})->bytes()) << dtype_info(dtype).name;
      EXPECT_EQ(sizing->weight_bytes(), predicted);
    }
  }
}

}  // namespace
}  // namespace neutrino::compute
