// Usage, prices and budgets through the API's handlers: sums, CSV, who sees which budget, what a body may not say.
#include <gmock/gmock.h>

#include "base/clock.h"
#include "cloud/api/api.h"
#include "cloud/api/csv.h"
#include "cloud/api/query.h"
#include "cloud/budget_rows.h"
#include "cloud/secret_box.h"
#include "cloud/testing/ledger_checks.h"
#include "cloud/usage_ledger.h"
#include "store/testing/test_database.h"

namespace neutrino::cloud {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kDay = 1'791'936'000'000;  // 2026-10-14
constexpr int64_t kNow = kDay + 12 * kHourMs;

TEST(Csv, IsSafeInASpreadsheet) {
  const std::pair<json::value, const char*> cells[] = {
      {"plain", "plain"},
      {"a,b", "\"a,b\""},
      {"say \"hi\"", "\"say \"\"hi\"\"\""},
      {"two\nlines", "\"two\nlines\""},
      {"=1+1", "'=1+1"},
      {"@SUM(A1)", "'@SUM(A1)"},
      {"-2", "'-2"},
      {"=HYPERLINK(\"x\",\"y\")", "\"'=HYPERLINK(\"\"x\"\",\"\"y\"\")\""},
      {-2, "-2"},
      {true, "true"},
      {nullptr, ""},
      {"", ""},
      {0.5, "0.5"},
      {json::array{1, 2}, "\"[1,2]\""},
  };
  for (const auto& [value, text] : cells)
    EXPECT_EQ(to_csv({"a", "none", "b"}, {json::object{{"b", 1}, {"a", value}}}),
              fmt::format("a,none,b\r\n{},,1\r\n", text));
}

class UsageApiTest : public testing::OnCloudDatabases {
 protected:
  class FixedClock final : public Clock {
   public:
    int64_t now_ns() const override { return kNow * 1'000'000; }
    int64_t unix_ms() const override { return kNow; }
  };

  void SetUp() override {
    OnCloudDatabases::SetUp();
    changes.emplace(*database);
    secrets.emplace(folder() / "secret.key");
    services.emplace(ApiServices{*database, tables, *changes, *secrets, clock, {}, {}});
    for (auto* subject : {usage_api, spending_api})
      for (ApiRoute& route : subject(*services)) routes.push_back(std::move(route));
    database->write([&](store::Transaction& tx) {
      for (const char* workspace : {"w", "v"}) {
        KeyRow key{
            .id = fmt::format("k-{}", workspace), .workspace = workspace, .name = "ci", .member = "m-1"};
        key.digest = workspace;
        tables.keys.insert(tx, key);
      }
      Member member{.id = "m-1", .workspace = "w", .email = "ada@example.org"};
      tables.members.insert(tx, member);
    });
    UsageLedger ledger(*database, tables, clock);
    std::vector<UsageRecord> records;
    for (int64_t i = 1; i <= 6; ++i)
      records.push_back({.sequence = i,
                         .id = fmt::format("u-{}", i),
                         .workspace = i <= 4 ? "w" : "v",
                         .endpoint = "chat-1",
                         .key = i <= 4 ? "k-w" : "k-v",
                         .model = i % 2 == 0 ? "=alias" : "chat",
                         .status = i == 4 ? 500 : 200,
                         .exact = true,
                         .started_ms = kNow - i * 10 * kHourMs,
                         .input_tokens = 10 * i,
                         .output_tokens = i,
                         .cost = 100 * i});
    ledger.count("g", records);
    ledger.count_machines(
        {{RunningReplica{
            .id = "r", .workspace = "w", .endpoint = "chat-1", .deployment = "d", .started_ms = kDay}}},
        kDay + kHourMs);
  }

  // What a handler answers; its error as "code param".
  ApiAnswer call(net::Method method, std::string_view path, const std::string& query = "",
                 json::value body = nullptr, std::string id = "", std::string accept = "") {
    net::Request http{.method = method, .parameter = std::move(id)};
    if (!accept.empty()) http.headers.push_back({"accept", accept});
    for (const ApiRoute& route : routes) {
      if (route.spec.method != method || route.spec.path != path) continue;
      ApiCall one{.http = http, .caller = caller, .body = body, .query = parse_query(query), .now_ms = kNow};
      if (method == net::Method::get)
        return database->read([&](store::Transaction& tx) { return route.handle(one, tx); });
      return database->write([&](store::Transaction& tx) { return route.handle(one, tx); });
    }
    throw Error(ErrorCode::internal, "no such route");
  }
  json::object get(std::string_view path, const std::string& query = "") {
    return call(net::Method::get, path, query).body.as_object();
  }
  std::string refusal(net::Method method, std::string_view path, const std::string& query,
                      json::value body = nullptr, std::string id = "") {
    try {
      call(method, path, query, std::move(body), std::move(id));
    } catch (const Error& error) {
      return error.code() == ErrorCode::not_found ? "not found" : error.param();
    }
    return "accepted";
  }
  json::object add_budget(json::object body) {
    return call(net::Method::post, "/api/v1/budgets", "", std::move(body)).body.as_object();
  }

  const Tables tables;
  const FixedClock clock;
  std::optional<store::ChangeLog> changes;
  std::optional<SecretBox> secrets;
  std::optional<ApiServices> services;
  std::vector<ApiRoute> routes;
  Caller caller{.workspace = "w", .role = Role::admin, .actor = "key:ci", .key = "k-w"};
};
NEUTRINO_ON_BOTH_ENGINES(UsageApiTest);

TEST_P(UsageApiTest, RowsAreTheNewestFirstAndOfOneWorkspace) {
  const json::object page = get("/api/v1/usage", "fields=id&limit=3");
  EXPECT_EQ(to_text(page.at("items")), R"([{"id":"u-1"},{"id":"u-2"},{"id":"u-3"}])");
  const std::string next(page.at("next").as_string());
  EXPECT_EQ(to_text(get("/api/v1/usage", "fields=id&limit=3&after=" + next).at("items")),
            R"([{"id":"u-4"}])");
  EXPECT_EQ(
      to_text(get("/api/v1/usage", fmt::format("fields=id&started_ms.min={}&model=chat", kNow - 20 * kHourMs))
                  .at("items")),
      R"([{"id":"u-1"}])");
  EXPECT_EQ(get("/api/v1/usage/hours").at("items").as_array().size(), 4u);
  EXPECT_EQ(get("/api/v1/usage/machines").at("items").as_array().at(0).at("running_ms"), kHourMs);
}

TEST_P(UsageApiTest, CsvHasAllThatIsAskedFor) {
  const std::string rows =
      "id,model,cost\r\nu-1,chat,100\r\nu-2,'=alias,200\r\nu-3,chat,300\r\nu-4,'=alias,400\r\n";
  const ApiAnswer asked = call(net::Method::get, "/api/v1/usage", "format=csv&fields=id,model,cost");
  EXPECT_EQ(asked.text, rows);
  EXPECT_THAT(std::string(asked.content_type), HasSubstr("text/csv"));
  EXPECT_EQ(call(net::Method::get, "/api/v1/usage", "fields=id,model,cost", nullptr, "", "text/csv").text,
            rows);
  const ApiAnswer page = call(net::Method::get, "/api/v1/usage", "format=csv&limit=1&fields=id");
  EXPECT_EQ(page.text, "id\r\nu-1\r\n");
  EXPECT_EQ(page.headers.back().name, "X-Next");
  EXPECT_EQ(refusal(net::Method::get, "/api/v1/usage", "format=xls"), "format");
  EXPECT_EQ(call(net::Method::get, "/api/v1/usage/summary", "format=csv&by=model").text.substr(0, 26),
            "model,name,requests,failed");
}

TEST_P(UsageApiTest, SumsAreOfAGroup) {
  const json::object by_key = get("/api/v1/usage/summary", "by=key");
  ASSERT_EQ(by_key.at("items").as_array().size(), 1u);
  const json::value& key = by_key.at("items").as_array()[0];
  EXPECT_EQ(key.at("key"), "k-w");
  EXPECT_EQ(key.at("name"), "ci");
  EXPECT_EQ(key.at("requests"), 4);
  EXPECT_EQ(key.at("failed"), 1);
  EXPECT_EQ(key.at("input_tokens"), 100);
  EXPECT_EQ(key.at("cost"), 1000);
  EXPECT_EQ(by_key.at("total").at("cost"), 1000);
  const json::object by_day = get("/api/v1/usage/summary", "");
  std::string days;
  for (const json::value& item : by_day.at("items").as_array())
    days += fmt::format("{} {} {} ", std::string(item.at("day").as_string()), item.at("cost").as_int64(),
                        item.at("machine_running_ms").as_int64());
  EXPECT_EQ(days, "2026-10-12 400 0 2026-10-13 500 0 2026-10-14 100 3600000 ");
  EXPECT_EQ(get("/api/v1/usage/summary", fmt::format("by=model&model=chat&to_ms={}", kNow - 11 * kHourMs))
                .at("total")
                .at("cost"),
            300);
  EXPECT_EQ(refusal(net::Method::get, "/api/v1/usage/summary", "by=colour"), "by");
  EXPECT_EQ(refusal(net::Method::get, "/api/v1/usage/summary", "from=1"), "from");
}

TEST_P(UsageApiTest, ABudgetIsOfItsSubjectAndShowsWhatWasSpent) {
  const json::object made =
      add_budget({{"name", "ci"}, {"subject", "key"}, {"subject_id", "ci"}, {"amount", 5000}});
  EXPECT_EQ(made.at("subject_id"), "k-w");
  EXPECT_EQ(made.at("spent"), 1000);
  EXPECT_EQ(made.at("left"), 4000);
  const json::object day =
      call(net::Method::patch, "/api/v1/budgets/{id}", "", json::object{{"period", "day"}}, "ci")
          .body.as_object();
  EXPECT_EQ(day.at("spent"), 100);
  EXPECT_EQ(day.at("period_begin_ms"), kDay);
  EXPECT_EQ(add_budget({{"name", "ada"}, {"subject", "member"}, {"subject_id", "ada@example.org"}})
                .at("subject_id"),
            "m-1");
}

TEST_P(UsageApiTest, WhatABudgetCannotBeIsRefusedByItsField) {
  const std::pair<json::object, const char*> cases[] = {
      {{{"subject", "team"}}, "subject"},
      {{{"subject", "key"}, {"subject_id", "nobody"}}, "subject_id"},
      {{{"subject", "key"}, {"subject_id", "k-v"}}, "subject_id"},  // another workspace's
      {{{"subject", "workspace"}, {"subject_id", "w"}}, "subject_id"},
      {{{"subject", "workspace"}, {"unit", "euros"}}, "unit"},
      {{{"subject", "workspace"}, {"period", "year"}}, "period"},
      {{{"subject", "workspace"}, {"amount", -1}}, "amount"},
      {{{"subject", "workspace"}, {"spent", 1}}, "spent"},
      {{{"subject", "workspace"}, {"amount", 1}}, "accepted"},
  };
  for (auto [body, param] : cases) {
    body["name"] = "b";
    EXPECT_EQ(refusal(net::Method::post, "/api/v1/budgets", "", body), param) << to_text(body);
  }
}

TEST_P(UsageApiTest, OthersSeeTheBudgetsOfTheirKeys) {
  add_budget({{"name", "all"}, {"subject", "workspace"}, {"amount", 1}});
  add_budget({{"name", "ada"}, {"subject", "member"}, {"subject_id", "m-1"}, {"amount", 1}});
  add_budget({{"name", "key"}, {"subject", "key"}, {"subject_id", "k-w"}, {"amount", 1}});
  const auto seen = [&](Caller as) {
    caller = std::move(as);
    std::string names;
    const json::object page = get("/api/v1/budgets", "order_by=name");
    for (const json::value& item : page.at("items").as_array())
      names += std::string(item.at("name").as_string()) + " ";
    return names;
  };
  EXPECT_EQ(seen(caller), "ada all key ");
  EXPECT_EQ(seen({.workspace = "w", .role = Role::user, .member = "m-1"}), "ada key ");
  EXPECT_EQ(seen({.workspace = "w", .role = Role::user, .key = "k-w"}), "key ");
  EXPECT_EQ(seen({.workspace = "w", .role = Role::user, .member = "m-2"}), "");
  EXPECT_EQ(refusal(net::Method::get, "/api/v1/budgets/{id}", "", nullptr, "all"), "not found");
  EXPECT_EQ(seen({.workspace = "v", .role = Role::admin}), "");
}

TEST_P(UsageApiTest, PricesHaveBounds) {
  EXPECT_EQ(refusal(net::Method::post, "/api/v1/prices", "", json::object{{"model", "m"}, {"input", -1}}),
            "input");
  EXPECT_EQ(refusal(net::Method::post, "/api/v1/prices", "", json::object{{"input", 1}}), "model");
  EXPECT_EQ(refusal(net::Method::post, "/api/v1/prices", "", json::object{{"model", "*"}, {"input", 20}}),
            "accepted");
  EXPECT_EQ(get("/api/v1/prices").at("items").as_array().size(), 1u);
}

}  // namespace
}  // namespace neutrino::cloud
