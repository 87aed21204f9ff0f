// Usage is counted once, whatever is repeated, comes late or dies in between; and rows, hours and budgets agree at every moment.
#include "cloud/usage_ledger.h"

#include <gmock/gmock.h>

#include <chrono>

#include "base/random.h"
#include "cloud/limits.h"
#include "cloud/testing/ledger_checks.h"
#include "store/testing/test_database.h"

namespace neutrino::cloud {
namespace {

using testing::count_of;
using testing::expect_sums_agree;

constexpr int64_t kNow = 1'792'000'000'000;  // 2026-10-14 17:46:40 UTC

struct Killed {};  // stands for a kill between two steps

class SettableClock final : public Clock {
 public:
  int64_t now_ns() const override { return unix_ms_ * 1'000'000; }
  int64_t unix_ms() const override { return unix_ms_; }
  void set(int64_t unix_ms) { unix_ms_ = unix_ms; }

 private:
  int64_t unix_ms_ = kNow;
};

UsageRecord usage(int64_t sequence, int64_t tokens = 10) {
  return {.sequence = sequence,
          .id = fmt::format("u-{}", sequence),
          .workspace = "w",
          .endpoint = "e",
          .replica = "r",
          .key = "k",
          .member = "m",
          .model = "chat",
          .status = 200,
          .complete = true,
          .exact = true,
          .started_ms = kNow - 1000,
          .input_tokens = tokens,
          .output_tokens = 2 * tokens,
          .price_input = 1,
          .price_output = 3,
          .cost = 7 * tokens};
}

std::vector<UsageRecord> usages(int64_t first, int64_t last) {
  std::vector<UsageRecord> records;
  for (int64_t i = first; i <= last; ++i) records.push_back(usage(i));
  return records;
}

class UsageLedgerTest : public testing::OnCloudDatabases {
 protected:
  void SetUp() override {
    OnCloudDatabases::SetUp();
    ledger.emplace(*database, tables, clock, UsageLedgerOptions{.between_steps = [this] {
      if (kill_after > 0 && --kill_after == 0) throw Killed{};
    }});
  }
  void TearDown() override { expect_sums_agree(*database, tables, clock.unix_ms()); }

  // Made as the API makes it.
  void add_budget(Budget budget) {
    budget.id = budget.name;
    budget.workspace = "w";
    database->write([&](store::Transaction& tx) {
      reckon(tx, budget, clock.unix_ms());
      tables.budgets.insert(tx, budget);
    });
  }
  Budget budget(const std::string& name) {
    return database->read([&](store::Transaction& tx) { return tables.budgets.get(tx, name); });
  }
  int64_t rows() { return count_of(*database, "SELECT COUNT(*) FROM usage_requests"); }
  int64_t cost() {
    return count_of(*database, "SELECT CAST(COALESCE(SUM(cost), 0) AS BIGINT) FROM usage_hours");
  }
  std::vector<std::string> events() {
    return database->read([&](store::Transaction& tx) {
      std::vector<std::string> all;
      for (const EventRow& event : tables.events.list(tx, {}).rows)
        all.push_back(event.reason + " " + event.message);
      return all;
    });
  }

  const Tables tables;
  SettableClock clock;
  std::optional<UsageLedger> ledger;
  int kill_after = 0;  // steps; 0: never
};
NEUTRINO_ON_BOTH_ENGINES(UsageLedgerTest);

TEST_P(UsageLedgerTest, WhatComesTwiceIsCountedOnce) {
  EXPECT_EQ(ledger->count("g", usages(1, 100)), 100);
  EXPECT_EQ(ledger->count("g", usages(1, 100)), 100);
  EXPECT_EQ(ledger->count("g", usages(51, 150)), 150);
  std::vector<UsageRecord> doubled = usages(151, 152);
  doubled.push_back(doubled[0]);
  std::swap(doubled[0], doubled[1]);
  EXPECT_EQ(ledger->count("g", doubled), 152);
  EXPECT_EQ(ledger->count("g", {}), 152);
  EXPECT_EQ(ledger->counted("g"), 152);
  EXPECT_EQ(ledger->counted("another"), 0);
  EXPECT_EQ(rows(), 152);
  EXPECT_EQ(cost(), 152 * 70);
}

TEST_P(UsageLedgerTest, WhatComesBeforeItsTurnWaits) {
  EXPECT_EQ(ledger->count("g", usages(5, 8)), 0);  // 1-4 are on their way
  EXPECT_EQ(rows(), 0);
  EXPECT_EQ(ledger->count("g", usages(1, 4)), 4);
  EXPECT_EQ(ledger->count("g", usages(5, 8)), 8);
  EXPECT_EQ(ledger->count("g", usages(20, 21), 8),
            21);  // the journal has lost 9-19: no reason to wait for ever
  EXPECT_EQ(rows(), 10);
}

TEST_P(UsageLedgerTest, AnIdIsWhatMakesARecordTheSame) {
  ledger->count("g", usages(1, 3));
  UsageRecord other = usage(3);
  other.id = "u-new";
  EXPECT_EQ(ledger->count("g", {other}), 3);
  EXPECT_EQ(rows(), 4);
}

// A gateway that sends until it hears that all is counted, to a control plane that is killed between any two steps.
TEST_P(UsageLedgerTest, KillsBetweenAnyTwoStepsNeitherLoseNorDouble) {
  add_budget({.name = "all", .subject = "workspace", .amount = 1'000'000, .period = "total"});
  int kills = 0;
  for (int64_t after = 0; after < 300; after = ledger->counted("g")) {
    kill_after = kills % 6;
    try {
      ledger->count("g", usages(after + 1, std::min<int64_t>(after + 25, 300)));
    } catch (const Killed&) {
    }
    ++kills;
    kill_after = 0;
  }
  EXPECT_GT(kills, 24);
  EXPECT_EQ(rows(), 300);
  EXPECT_EQ(cost(), 300 * 70);
  EXPECT_EQ(budget("all").spent, 300 * 70);
}

// As one might write it: the sequence number in a transaction of its own. The test above must catch it.
TEST_P(UsageLedgerTest, ASequenceOfItsOwnTransactionLoses) {
  const auto careless_count = [&](const std::vector<UsageRecord>& records) {
    database->write([&](store::Transaction& tx) {
      tx.execute(
          "INSERT INTO gateways (id, usage_sequence, seen_ms) VALUES ('g', ?, 0) ON CONFLICT (id) DO UPDATE "
          "SET "
          "usage_sequence = excluded.usage_sequence",
          records.back().sequence);
    });
    ledger->count("g", records);
  };
  int kills = 0;
  for (int64_t after = 0; after < 300; after = ledger->counted("g")) {
    kill_after = kills++ % 6;
    try {
      careless_count(usages(after + 1, std::min<int64_t>(after + 25, 300)));
    } catch (const Killed&) {
    }
    kill_after = 0;
  }
  EXPECT_LT(rows(), 300);
}

// Random records, sent in random batches that overlap and repeat, by two gateways, with kills.
TEST_P(UsageLedgerTest, SumsOfRowsAreSumsOfHours) {
  Random random(7);
  add_budget(
      {.name = "k1", .subject = "key", .subject_id = "k1", .unit = "tokens", .amount = 100, .period = "day"});
  add_budget({.name = "m0", .subject = "member", .subject_id = "m0", .amount = 100, .period = "month"});
  std::vector<UsageRecord> journal[2];
  for (int64_t i = 1; i <= 400; ++i) {
    UsageRecord record = usage(i, random.below(1000));
    record.key = fmt::format("k{}", random.below(3));
    record.member = fmt::format("m{}", random.below(2));
    record.model = random.below(2) == 0 ? "chat" : "alias";
    record.status = random.below(4) == 0 ? 429 : 200;
    record.exact = random.below(3) != 0;
    record.started_ms -= random.below(40) * kDayMs / 7;
    record.id = fmt::format("u-{}-{}", i % 2, i);
    journal[i % 2].push_back(record);
    journal[i % 2].back().sequence = std::ssize(journal[i % 2]);
  }
  for (int i = 0; i < 60; ++i) {
    const int64_t which = random.below(2), size = std::ssize(journal[which]);
    const int64_t counted = ledger->counted(fmt::format("g{}", which));
    const int64_t begin = random.below(std::min(counted + 3, size)), length = 1 + random.below(40);
    kill_after = static_cast<int>(random.below(8));
    try {
      const auto first = journal[which].begin() + begin;
      ledger->count(fmt::format("g{}", which), {first, first + std::min(length, size - begin)});
    } catch (const Killed&) {
    }
    if (i % 10 == 0) expect_sums_agree(*database, tables, clock.unix_ms());
  }
  kill_after = 0;
  for (int which : {0, 1}) EXPECT_EQ(ledger->count(fmt::format("g{}", which), journal[which], 0), 200);
  EXPECT_EQ(rows(), 400);
  EXPECT_GT(budget("k1").spent, 0);
  EXPECT_GT(budget("m0").spent, budget("k1").spent);
}

// ---- budgets

TEST(BudgetPeriods, BeginInUtc) {
  struct Case {
    const char* period;
    int64_t now_ms, begin_ms;
  };
  constexpr int64_t kFirstOfMarch2028 = 1'835'481'600'000;
  for (const Case& c : {Case{"day", kNow, kNow / kDayMs * kDayMs}, Case{"month", kNow, 1'790'812'800'000},
                        Case{"total", kNow, 0}, Case{"month", kFirstOfMarch2028, kFirstOfMarch2028},
                        Case{"month", kFirstOfMarch2028 - 1, kFirstOfMarch2028 - 29 * kDayMs},  // a leap year
                        Case{"day", 0, 0}, Case{"month", 0, 0}})
    EXPECT_EQ(period_begin_ms(c.period, c.now_ms), c.begin_ms) << c.period << " " << c.now_ms;
}

TEST_P(UsageLedgerTest, ABudgetBeginsAnewWithItsPeriod) {
  add_budget({.name = "day", .subject = "key", .subject_id = "k", .amount = 1000, .period = "day"});
  add_budget({.name = "total", .subject = "key", .subject_id = "k", .amount = 1000, .period = "total"});
  ledger->count("g", usages(1, 2));
  EXPECT_EQ(budget("day").spent, 140);
  clock.set(kNow + kDayMs);
  UsageRecord late = usage(3), today = usage(4);  // one that began yesterday is yesterday's
  today.started_ms = kNow + kDayMs;
  ledger->count("g", {late, today});
  EXPECT_EQ(budget("day").spent, 70);
  EXPECT_EQ(budget("total").spent, 280);
  clock.set(kNow);  // a clock that was set back: the day's usage is what it was
  ledger->count("g", {usage(5)});
  EXPECT_EQ(budget("day").spent, 280 + 70);
}

TEST_P(UsageLedgerTest, OfABudgetMadeLaterTheUsageOfItsPeriodCounts) {
  UsageRecord old = usage(1);
  old.started_ms -= 31 * kDayMs;
  ledger->count("g", {old, usage(2), usage(3)});
  add_budget({.name = "b", .subject = "member", .subject_id = "m", .unit = "tokens", .amount = 10});
  EXPECT_EQ(budget("b").spent, 60);
}

TEST_P(UsageLedgerTest, MarksAreToldOnceAPeriod) {
  add_budget({.name = "b", .subject = "workspace", .amount = 700, .period = "day"});
  ledger->count("g", usages(1, 7));
  EXPECT_THAT(events(), ::testing::IsEmpty());  // 490 of 700
  ledger->count("g", usages(8, 8));
  EXPECT_THAT(events(),
              ::testing::ElementsAre("BudgetWarning budget b: 560 of 700 nanodollars used in the day from "
                                     "2026-10-14, 80 percent"));
  ledger->count("g", usages(9, 9));
  EXPECT_EQ(events().size(), 1u);
  ledger->count("g", usages(10, 12));
  EXPECT_EQ(events().size(), 2u);
  ledger->count("g", usages(13, 20));
  EXPECT_EQ(events().size(), 2u);
  clock.set(kNow + kDayMs);
  std::vector<UsageRecord> next = usages(21, 40);
  for (UsageRecord& record : next) record.started_ms += kDayMs;
  ledger->count("g", next);
  EXPECT_EQ(events().size(), 4u);  // both marks at once
}

TEST_P(UsageLedgerTest, GatewaysAreToldOfHardBudgets) {
  add_budget({.name = "w", .subject = "workspace", .amount = 700, .hard = true});
  add_budget({.name = "k",
              .subject = "key",
              .subject_id = "k",
              .unit = "tokens",
              .amount = 90,
              .hard = true,
              .period = "day"});
  add_budget({.name = "m", .subject = "member", .subject_id = "m", .amount = 5, .hard = true});
  add_budget({.name = "soft", .subject = "key", .subject_id = "k", .amount = 1});
  ledger->count("g", usages(1, 2));
  const auto told = [&] {
    return database->read([&](store::Transaction& tx) { return ledger->hard_budgets(tx); });
  };
  const HardBudgets budgets = told();
  EXPECT_THAT(budgets.of({.id = "k", .workspace = "w", .member = "m"}),
              ::testing::ElementsAre("k", "m", "w"));
  EXPECT_THAT(budgets.of({.id = "k2", .workspace = "w"}), ::testing::ElementsAre("w"));
  EXPECT_THAT(budgets.of({.id = "k", .workspace = "w2", .member = "m"}), ::testing::IsEmpty());
  ASSERT_EQ(budgets.routes().size(), 3u);
  EXPECT_EQ(budgets.routes()[0].unit, "tokens");
  EXPECT_EQ(budgets.routes()[0].spent, 60);
  clock.set(kNow + kDayMs);  // nobody has used it today
  EXPECT_EQ(told().routes()[0].spent, 0);
  EXPECT_EQ(told().routes()[1].spent, 140);
}

// ---- machines

class MachineHoursTest : public UsageLedgerTest {
 protected:
  void SetUp() override {
    UsageLedgerTest::SetUp();
    database->write([&](store::Transaction& tx) {
      Shape shape{.name = "small", .price_per_hour = 3'600'001};
      tables.shapes.insert(tx, shape);
    });
  }
  std::vector<MachineHour> hours() {
    return database->read([&](store::Transaction& tx) { return tables.machine_hours.list(tx, {}).rows; });
  }
  RunningReplica replica{.id = "r-1",
                         .workspace = "w",
                         .endpoint = "e",
                         .deployment = "d",
                         .shape = "small",
                         .memory_bytes = 5,
                         .cores = 0.5,
                         .started_ms = kBegin + 1000};
  static constexpr int64_t kBegin = kNow / kHourMs * kHourMs;
};
NEUTRINO_ON_BOTH_ENGINES(MachineHoursTest);

TEST_P(MachineHoursTest, TimeIsSplitOverHoursAndNeverCountedTwice) {
  for (const int64_t at : {500, 61'000, 61'000, 30'000, 121'000})
    ledger->count_machines({{replica}}, kBegin + at);
  EXPECT_EQ(hours().at(0).running_ms, 120'000);
  // A control plane that was away for two hours.
  UsageLedger restarted(*database, tables, clock);
  restarted.count_machines({{replica}}, kBegin + 2 * kHourMs + 5000);
  ASSERT_EQ(hours().size(), 3u);
  EXPECT_EQ(hours()[0].running_ms, kHourMs - 1000);
  EXPECT_EQ(hours()[1].running_ms, kHourMs);
  EXPECT_EQ(hours()[1].cost, 3'600'001);
  EXPECT_EQ(hours()[2].running_ms, 5000);
  EXPECT_EQ(hours()[2].cores, 0.5);
}

TEST_P(MachineHoursTest, WhatEndedIsCountedToItsEndAndARestartFromItsBeginning) {
  ledger->count_machines({{replica}}, kBegin + 11'000);
  replica.finished_ms = kBegin + 21'000;
  ledger->count_machines({{replica}}, kBegin + 60'000);
  replica.started_ms = kBegin + 50'000;
  replica.finished_ms = 0;
  ledger->count_machines({{replica}}, kBegin + 60'000);
  replica.started_ms = 0;  // the next generation has not begun
  ledger->count_machines({{replica}}, kBegin + 90'000);
  EXPECT_EQ(hours().at(0).running_ms, 20'000 + 10'000);
}

TEST_P(MachineHoursTest, ManySmallStepsCostWhatOneDoes) {
  for (int64_t at = 1000; at <= 400'000; at += 7777) ledger->count_machines({{replica}}, kBegin + at);
  replica.id = "r-2";
  ledger->count_machines({{replica}}, hours().at(0).until_ms);
  ASSERT_EQ(hours().size(), 2u);
  EXPECT_EQ(hours()[0].running_ms, hours()[1].running_ms);
  EXPECT_EQ(hours()[0].cost, hours()[1].cost);
}

// ---- age, speed

TEST_P(UsageLedgerTest, OldRowsGoAndHoursStay) {
  std::vector<UsageRecord> records = usages(1, 40);
  for (size_t i = 0; i < 30; ++i) {
    records[i].started_ms -= (limits::kUsageRowDays - 1) * kDayMs;
    records[i].workspace = i % 3 == 0 ? "v" : "w";
  }
  ledger->count("g", records);
  EXPECT_EQ(ledger->expire(kNow), 0);
  clock.set(kNow + 2 * kDayMs);
  EXPECT_EQ(ledger->expire(clock.unix_ms()), 30);
  EXPECT_EQ(cost(), 40 * 70);
  EXPECT_EQ(ledger->count("g", records, 0), 40);  // what comes once more is known by its number
  EXPECT_EQ(cost(), 40 * 70);
  EXPECT_EQ(rows(), 10);
  database->write(
      [](store::Transaction& tx) { tx.execute("DELETE FROM usage_hours WHERE hour_ms < ?", kNow - kDayMs); });
}

TEST_P(UsageLedgerTest, TwentyThousandRecordsASecond) {
  const bool is_sqlite = GetParam() == store::testing::Engine::sqlite;
  const int64_t records = is_sqlite ? 10'000 : 2000, together = 500;
  add_budget({.name = "b", .subject = "key", .subject_id = "k", .amount = 1'000'000'000});
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t at = 0; at < records; at += together) ledger->count("g", usages(at + 1, at + together));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double a_second = static_cast<double>(records) / seconds;
  fmt::print("{:.0f} records/s\n", a_second);
  EXPECT_GT(a_second, is_sqlite ? 20'000 / 3 : 2000 / 3);  // CI: a third
}

}  // namespace
}  // namespace neutrino::cloud
