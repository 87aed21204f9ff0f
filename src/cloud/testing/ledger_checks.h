// What must hold of usage at every moment, whoever died: hours are the sums of rows, budgets are the sums of hours.
#pragma once

#include <gtest/gtest.h>

#include "cloud/budget_rows.h"
#include "cloud/schema.h"
#include "store/database.h"
#include "store/testing/test_database.h"

namespace neutrino::cloud::testing {

// A test on both engines with the cloud's tables, which are empty. Those of PostgreSQL are made once for a suite: that takes longer than
// most tests.
class OnCloudDatabases : public store::testing::OnBothEngines {
 protected:
  void SetUp() override {
    if (GetParam() == store::testing::Engine::sqlite)
      database = &own_.emplace(store::DatabaseOptions{.url = new_url()});
    else if (!shared_)
      database = &shared_.emplace(store::DatabaseOptions{.url = new_url()});
    else
      return empty(*(database = &*shared_));
    migrate(*database, kCloudComponent, cloud_migrations());
  }
  static void TearDownTestSuite() { shared_.reset(); }

  store::Database* database = nullptr;

 private:
  static void empty(store::Database& database) {
    database.write([](store::Transaction& tx) {
      for (const store::TableShape& table : tx.tables())
        if (!table.name.starts_with("store_")) tx.execute("DELETE FROM " + table.name);
    });
  }
  std::optional<store::Database> own_;
  static inline std::optional<store::Database> shared_;
};

inline constexpr std::string_view kSummed[] = {
    "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "queue_ms", "replica_ms", "cost"};

// Rows that are left out because an hour's sums are all 0 do not matter.
inline void expect_sums_agree(store::Database& database, const Tables& tables, int64_t now_ms) {
  std::string of_rows, of_hours;
  for (const std::string_view name : kSummed) {
    of_rows += fmt::format(", CAST(SUM({}) AS BIGINT)", name);
    of_hours += fmt::format(", {}", name);
  }
  const std::string failed = "CAST(SUM(CASE WHEN status = 0 OR status >= 400 THEN 1 ELSE 0 END) AS BIGINT)";
  database.read([&](store::Transaction& tx) {
    const store::Rows rows = tx.query(fmt::format(
        "SELECT workspace, started_ms / 3600000 * 3600000, endpoint, key, member, model, COUNT(*), {}{} FROM "
        "usage_requests GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6",
        failed, of_rows));
    const store::Rows hours = tx.query(fmt::format(
        "SELECT workspace, hour_ms, endpoint, key, member, model, requests, failed{} FROM usage_hours "
        "ORDER BY 1, 2, 3, 4, 5, 6",
        of_hours));
    EXPECT_EQ(rows.rows, hours.rows);
    for (const Budget& budget : tables.budgets.list(tx, {.limit = 1000}).rows) {
      Budget reckoned = budget;
      reckon(tx, reckoned, now_ms);
      if (reckoned.period_begin_ms == budget.period_begin_ms) {
        EXPECT_EQ(budget.spent, reckoned.spent) << budget.name;
      }
    }
  });
}

inline int64_t count_of(store::Database& database, const std::string& sql) {
  return database.read(
      [&](store::Transaction& tx) { return store::as_integer(tx.query_row(sql)->at(0), sql); });
}

}  // namespace neutrino::cloud::testing
