#include "cloud/budget.h"

#include <gtest/gtest.h>

namespace neutrino::cloud {
namespace {

const std::vector<std::string> kBoth = {"money", "tokens"};

std::vector<BudgetRoute> routes(int64_t money_spent = 0) {
  return {{.id = "money", .limit = 1000, .spent = money_spent},
          {.id = "tokens", .unit = "tokens", .limit = 100}};
}

TEST(Budgets, ReserveAllOrNone) {
  Budgets budgets;
  budgets.update(routes(), 0);
  EXPECT_EQ(budgets.reserve(kBoth, {.tokens = 60, .nanodollars = 600}), "");
  EXPECT_EQ(budgets.reserve(kBoth, {.tokens = 60, .nanodollars = 100}), "tokens");
  EXPECT_EQ(budgets.left("money"), 400);  // the one that had enough was not touched
  EXPECT_EQ(budgets.reserve(kBoth, {.tokens = 40, .nanodollars = 401}), "money");
  EXPECT_EQ(budgets.reserve(kBoth, {.tokens = 40, .nanodollars = 400}), "");
  EXPECT_EQ(budgets.left("money"), 0);
}

TEST(Budgets, SettledUsageCountsOnceAcrossTables) {
  Budgets budgets;
  budgets.update(routes(), 0);
  for (int64_t sequence = 1; sequence <= 3; ++sequence) {
    EXPECT_EQ(budgets.reserve(kBoth, {.tokens = 20, .nanodollars = 300}), "");
    budgets.settle(kBoth, {.tokens = 20, .nanodollars = 300}, {.tokens = 10, .nanodollars = 100}, sequence);
  }
  EXPECT_EQ(budgets.left("money"), 700);
  EXPECT_EQ(budgets.left("tokens"), 70);
  budgets.update(routes(200), 2);  // the control plane has counted two of them
  EXPECT_EQ(budgets.left("money"), 700);
  budgets.update(routes(300), 3);
  EXPECT_EQ(budgets.left("money"), 700);
  budgets.settle(kBoth, {}, {}, 0);
  EXPECT_EQ(budgets.left("money"), 700);
}

TEST(Budgets, ReservationsOutliveTheirBudget) {
  Budgets budgets;
  budgets.update(routes(), 0);
  EXPECT_EQ(budgets.reserve(kBoth, {.nanodollars = 900}), "");
  budgets.update({}, 0);
  EXPECT_EQ(budgets.reserve(kBoth, {.nanodollars = 5000}), "");  // there is none now
  budgets.settle(kBoth, {.nanodollars = 5000}, {}, 0);
  budgets.update(routes(), 0);
  EXPECT_EQ(budgets.left("money"), 100);
  budgets.settle(kBoth, {.nanodollars = 900}, {}, 0);
  EXPECT_EQ(budgets.left("money"), 1000);
}

}  // namespace
}  // namespace neutrino::cloud
