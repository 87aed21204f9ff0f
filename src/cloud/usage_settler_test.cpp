// Estimates are settled from replicas' logs: once, by the id alone, whatever else is in the log and whoever dies.
#include "cloud/usage_settler.h"

#include <gmock/gmock.h>

#include "base/clock.h"
#include "cloud/limits.h"
#include "cloud/testing/ledger_checks.h"
#include "cloud/usage_ledger.h"
#include "store/testing/test_database.h"

namespace neutrino::cloud {
namespace {

using testing::expect_sums_agree;

constexpr int64_t kNow = 1'792'000'000'000;

std::string line(std::string_view id, int64_t input, int64_t output, int64_t cached = 0) {
  return fmt::format(
      R"({{"time_unix_ms":1,"id":"req","status":200,"usage_id":"{}","prompt_tokens":{},"cached_tokens":{},"completion_tokens":{},"reasoning_tokens":1}})"
      "\n",
      id, input, cached, output);
}

TEST(LoggedUsage, IsFoundAmongForeignAndTornLines) {
  struct Case {
    const char* what;
    std::string text;
    size_t found, bytes_left;
  };
  const std::string good = line("u-1", 5, 7), begun = R"({"time_unix_ms":1,"id":"x","usage_id":"u-0","pro)";
  const Case cases[] = {
      {"a line", good, 1, 0},
      {"two", good + line("u-2", 1, 1), 2, 0},
      {"foreign", "loading usage_id\n\xff\xfe\n{\"a\":1}\n\n" + good, 1, 0},
      {"not finished", good + begun, 1, begun.size()},
      {"a line that a killed process left", begun + good, 1, 0},
      {"its own words, no JSON", "\"usage_id\" is \"u-1\"\n", 0, 0},
      {"an id that is no text", "{\"usage_id\":17,\"prompt_tokens\":1}\n", 0, 0},
      {"an array", "[\"usage_id\"]\n", 0, 0},
      {"the replica was full", "{\"usage_id\":\"u-1\",\"status\":429}\n", 0, 0},
      {"nothing was used", "{\"usage_id\":\"u-1\",\"status\":400}\n", 1, 0},
  };
  for (const Case& c : cases) {
    std::vector<LoggedUsage> found;
    EXPECT_EQ(c.text.size() - read_logged_usage(c.text, found), c.bytes_left) << c.what;
    EXPECT_EQ(found.size(), c.found) << c.what;
    if (c.text == good) {
      EXPECT_EQ(found[0].usage_id, "u-1");
      EXPECT_EQ(found[0].input_tokens, 5);
      EXPECT_EQ(found[0].output_tokens, 7);
      EXPECT_EQ(found[0].reasoning_tokens, 1);
    }
  }
}

struct Killed {};

// Logs of replicas in memory; reading costs nothing but is counted.
struct Logs {
  std::map<std::string, std::string> texts;
  int64_t bytes_read = 0;
  bool answers = true;

  LogChunk read(const std::string& replica, int64_t cursor, int64_t bytes_max) {
    if (!answers) throw Error(ErrorCode::unavailable, "the provider does not answer");
    const auto found = texts.find(replica);
    if (found == texts.end()) throw Error(ErrorCode::not_found, "no such replica");
    const std::string text =
        found->second.substr(static_cast<size_t>(cursor), static_cast<size_t>(bytes_max));
    bytes_read += std::ssize(text);
    return {.text = text, .next = cursor + std::ssize(text)};
  }
};

class SettlingTest : public testing::OnCloudDatabases {
 protected:
  void SetUp() override {
    OnCloudDatabases::SetUp();
    ledger.emplace(*database, tables, clock, UsageLedgerOptions{.between_steps = [this] {
      if (kill_after > 0 && --kill_after == 0) throw Killed{};
    }});
    Budget all{.id = "all", .workspace = "w", .name = "all", .subject = "workspace", .amount = 1'000'000};
    all.period = "total";
    database->write([&](store::Transaction& tx) { tables.budgets.insert(tx, all); });
  }
  void TearDown() override { expect_sums_agree(*database, tables, kNow); }

  void estimate(int64_t number, const std::string& replica = "r", int64_t started_ms = kNow,
                int64_t output_tokens = 1) {
    ledger->count("g", {{.sequence = ++sequence,
                         .id = fmt::format("u-{}", number),
                         .workspace = "w",
                         .endpoint = "e",
                         .replica = replica,
                         .key = "k",
                         .model = "chat",
                         .status = 499,
                         .started_ms = started_ms,
                         .input_tokens = 3,
                         .output_tokens = output_tokens,
                         .price_input = 10,
                         .price_cached_input = 1,
                         .price_output = 100,
                         .cost = 130}});
  }
  int64_t settle(int64_t now_ms = kNow) {
    return ledger->settle([this](auto&&... arguments) { return logs.read(arguments...); }, now_ms);
  }
  UsageRow row(int64_t number) {
    return database->read(
        [&](store::Transaction& tx) { return tables.usage.get(tx, fmt::format("u-{}", number)); });
  }
  int64_t spent() {
    return database->read([&](store::Transaction& tx) { return tables.budgets.get(tx, "all").spent; });
  }

  const Tables tables;
  const SystemClock clock;
  std::optional<UsageLedger> ledger;
  Logs logs;
  int64_t sequence = 0;
  int kill_after = 0;
};
NEUTRINO_ON_BOTH_ENGINES(SettlingTest);

TEST_P(SettlingTest, RowHourAndBudgetAreCorrectedOnce) {
  logs.texts["r"] = "starting\n" + line("u-1", 8, 20, 5) + line("u-9", 1, 1) + line("u-1", 1000, 1000);
  estimate(1);
  EXPECT_EQ(spent(), 130);
  EXPECT_EQ(settle(), 1);
  EXPECT_EQ(row(1).input_tokens, 8);
  EXPECT_EQ(row(1).cached_tokens, 5);
  EXPECT_EQ(row(1).output_tokens, 20);
  EXPECT_EQ(row(1).status, 499);
  EXPECT_TRUE(row(1).exact && row(1).settled);
  EXPECT_EQ(row(1).cost, 3 * 10 + 5 * 1 + 20 * 100);
  EXPECT_EQ(spent(), row(1).cost);
  logs.texts["r"] += line("u-1", 1, 1);
  EXPECT_EQ(settle(), 0);
  estimate(1);  // the gateway had not heard that it is counted
  EXPECT_EQ(settle(), 0);
  EXPECT_EQ(spent(), row(1).cost);
}

TEST_P(SettlingTest, KillsBetweenAnyTwoSteps) {
  for (int64_t i = 1; i <= 3; ++i) estimate(i), logs.texts["r"] += line(fmt::format("u-{}", i), 1, i);
  int kills = 0;
  for (kill_after = 1;; kill_after = ++kills + 1) {
    try {
      EXPECT_EQ(settle(), 3);
      break;
    } catch (const Killed&) {
      EXPECT_EQ(spent(), 390);
      ledger.emplace(*database, tables, clock, UsageLedgerOptions{.between_steps = [this] {
        if (kill_after > 0 && --kill_after == 0) throw Killed{};
      }});
    }
  }
  EXPECT_EQ(kills, 3);
  EXPECT_EQ(spent(), 3 * 10 + 6 * 100);
}

TEST_P(SettlingTest, ALineThatComesLaterOrInPiecesIsFound) {
  const std::string late = line("u-1", 8, 20);
  logs.texts["r"] = "a\n" + late.substr(0, 40);
  estimate(1);
  EXPECT_EQ(settle(), 0);
  logs.texts["r"] += late.substr(40, 30);
  EXPECT_EQ(settle(), 0);
  logs.texts["r"] += late.substr(70);
  EXPECT_EQ(settle(), 1);
}

// The line may have been read before the gateway sent its record.
TEST_P(SettlingTest, ARecordThatComesLaterIsFound) {
  logs.texts["r"] = line("u-1", 1, 1);
  estimate(1);
  EXPECT_EQ(settle(kNow), 1);
  logs.texts["r"] += line("u-2", 1, 1) + line("u-3", 1, 1);
  estimate(3, "r", kNow + 1000);
  EXPECT_EQ(settle(kNow + 2000), 1);
  estimate(2, "r", kNow + 900);
  EXPECT_EQ(settle(kNow + 3000), 1);
}

TEST_P(SettlingTest, ALogIsReadOnceAsItGrows) {
  const std::string noise(100'000, 'x');
  for (int i = 0; i < 30; ++i) logs.texts["r"] += noise + "\n";
  estimate(1);  // never found
  EXPECT_EQ(settle(kNow), 0);
  EXPECT_GE(logs.bytes_read, 3'000'000);
  logs.bytes_read = 0;
  EXPECT_EQ(settle(kNow + 1000), 0);
  EXPECT_EQ(logs.bytes_read, 0);
  for (int64_t i = 2; i < 12; ++i) {  // what is new is looked for from the last look before it began
    logs.texts["r"] += "y\n" + line(fmt::format("u-{}", i), 1, 1);
    estimate(i, "r", kNow + i * 120'000);
    EXPECT_EQ(settle(kNow + i * 120'000 + 1000), i == 2 ? 2 : 1);  // the first one never came
  }
  EXPECT_LT(logs.bytes_read, 10'000);
}

TEST_P(SettlingTest, AVeryLongLineIsPassedOver) {
  logs.texts["r"] = std::string(1'000'000, 'x') + "\n" + line("u-1", 8, 20);
  estimate(1);
  EXPECT_EQ(settle(), 1);
}

TEST_P(SettlingTest, AnotherReplicasLogSaysNothing) {
  logs.texts["r"] = "";
  logs.texts["r2"] = line("u-1", 8, 20) + line("u-2", 1, 1);
  estimate(1, "r");
  estimate(2, "r2");
  EXPECT_EQ(settle(), 1);
  EXPECT_FALSE(row(1).settled);
}

TEST_P(SettlingTest, WhatALogDoesNotTellOfNeverCame) {
  logs.texts["tells"] = line("u-8", 8, 20);
  logs.texts["silent"] = "hello\n";
  estimate(1, "tells", kNow, 0);
  estimate(2, "tells");  // some of its answer was seen
  estimate(3, "silent", kNow, 0);
  EXPECT_EQ(settle(), 0);
  EXPECT_EQ(settle(kNow + 59'999), 0);
  EXPECT_EQ(settle(kNow + 60'000), 2);
  EXPECT_EQ(row(1).cost, 0);
  EXPECT_EQ(row(1).input_tokens, 0);
  EXPECT_EQ(row(2).cost, 130);
  EXPECT_FALSE(row(2).exact);
  EXPECT_FALSE(row(3).settled);
}

TEST_P(SettlingTest, WhatCannotBeFoundStaysAsItIs) {
  logs.texts["r"] = "";
  estimate(1, "gone");
  estimate(2);
  estimate(3, "");  // it never came to a replica
  EXPECT_TRUE(row(3).settled);
  logs.answers = false;
  EXPECT_EQ(settle(), 0);
  EXPECT_FALSE(row(1).settled);
  logs.answers = true;
  EXPECT_EQ(settle(), 1);
  EXPECT_TRUE(row(1).settled);
  EXPECT_FALSE(row(1).exact);
  EXPECT_EQ(settle(kNow + limits::kUsageSettleHours * kHourMs), 0);
  EXPECT_FALSE(row(2).settled);
  settle(kNow + limits::kUsageSettleHours * kHourMs + 1);
  EXPECT_TRUE(row(2).settled);
  logs.texts["r"] = line("u-2", 8, 20);
  EXPECT_EQ(settle(), 0);
  EXPECT_EQ(row(2).cost, 130);
}

}  // namespace
}  // namespace neutrino::cloud
