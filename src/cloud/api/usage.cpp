// What was used, through the API: requests one by one, hours, sums, machines; as JSON or, with `format=csv` or Accept: text/csv, as CSV.
//
// CSV has all rows that the query asks for, up to kCsvRows of them; then the header X-Next is the cursor (`after`) of what follows.
#include <array>

#include "cloud/api/collection.h"
#include "cloud/api/csv.h"
#include "cloud/budget_rows.h"

namespace neutrino::cloud {
namespace {

using store::Transaction;

constexpr int64_t kCsvRows = 50'000;  // in one answer

// ---- CSV

bool take_csv(ApiCall& call) {
  const std::string format = query_text(call.query, "format");
  if (!format.empty() && format != "csv" && format != "json")
    throw make_error(ErrorCode::invalid_argument, "format must be json or csv, got '{:.64}'", format)
        .with_param("format");
  call.query.erase("format");
  if (!format.empty()) return format == "csv";
  return call.http.header("accept").find("text/csv") != std::string_view::npos;
}

ApiAnswer csv_answer(const std::vector<std::string>& names, const json::array& items,
                     const std::string& next) {
  ApiAnswer answer{.text = to_csv(names, items), .content_type = "text/csv; charset=utf-8"};
  answer.headers.push_back({"Content-Disposition", "attachment; filename=\"usage.csv\""});
  if (!next.empty()) answer.headers.push_back({"X-Next", next});
  return answer;
}

template <HasFields T>
std::vector<std::string> columns_of(const ApiCall& call) {
  std::vector<std::string> names = query_list(call.query, "fields");
  if (names.empty()) for_each_field<T>([&](const auto& f) { names.emplace_back(f.name); });
  return names;
}

// All pages, from the one that was asked for.
template <HasFields T>
ApiAnswer list_as_csv(const Collection<T>& collection, ApiCall& call, Transaction& tx) {
  const bool limited = call.query.contains("limit");
  if (!limited) call.query["limit"] = std::to_string(limits::kStorePageRows);
  json::array items;
  std::string next;
  do {
    json::value page = list_rows(collection, call, tx).body;
    for (json::value& item : page.at("items").as_array()) items.push_back(std::move(item));
    next = page.at("next").as_string().c_str();
    call.query["after"] = next;
  } while (!limited && !next.empty() && std::ssize(items) < kCsvRows);
  return csv_answer(columns_of<T>(call), items, next);
}

// The newest first, unless the query says what.
template <HasFields T>
ApiRoute list_route(const Collection<T>& collection, std::string newest_by) {
  ApiRoute route = collection_routes(collection).front();
  route.handle = [collection, newest_by](ApiCall& call, Transaction& tx) {
    if (!call.query.contains("order_by") && !call.query.contains("descending")) {
      call.query["order_by"] = newest_by;
      call.query["descending"] = "true";
    }
    return take_csv(call) ? list_as_csv(collection, call, tx) : list_rows(collection, call, tx);
  };
  return route;
}

constexpr Verbs kListOnly{.get = false, .create = false, .put = false, .patch = false, .erase = false};

// ---- sums

struct Grouping {
  std::string_view by;
  std::string_view column;          // of usage_hours
  std::string_view machine_column;  // of machine_hours; empty: machines have no such
};
constexpr std::array<Grouping, 5> kGroupings{{
    {"key", "key", ""},
    {"member", "member", ""},
    {"endpoint", "endpoint", "endpoint"},
    {"model", "model", ""},
    {"day", "hour_ms / 86400000 * 86400000", "hour_ms / 86400000 * 86400000"},
}};
constexpr std::array<std::string_view, 9> kSums{"requests",      "failed",        "input_tokens",
                                                "cached_tokens", "output_tokens", "reasoning_tokens",
                                                "queue_ms",      "replica_ms",    "cost"};
constexpr std::array<std::string_view, 2> kMachineSums{"running_ms", "cost"};
constexpr std::array<std::string_view, 4> kConditions{"key", "member", "endpoint", "model"};

const Grouping& grouping_of(const ApiCall& call) {
  const std::string by = query_text(call.query, "by");
  for (const Grouping& grouping : kGroupings)
    if (by == grouping.by || (by.empty() && grouping.by == "day")) return grouping;
  throw make_error(ErrorCode::invalid_argument,
                   "by must be key, member, endpoint, model or day, got '{:.64}'", by)
      .with_param("by");
}

struct SumQuery {
  std::string where = " WHERE workspace = ? AND hour_ms >= ? AND hour_ms < ?";
  std::vector<store::Value> values;
};

SumQuery sum_query(const ApiCall& call, std::span<const std::string_view> conditions) {
  constexpr int64_t kEver = INT64_MAX;
  SumQuery query;
  const int64_t from = query_integer(call.query, "from_ms", 0, 0, kEver);
  query.values = {call.caller.workspace, from / kHourMs * kHourMs,
                  query_integer(call.query, "to_ms", kEver, 0, kEver)};
  for (const std::string_view name : conditions)
    if (const auto wanted = call.query.find(std::string(name)); wanted != call.query.end()) {
      query.where += fmt::format(" AND {} = ?", name);
      query.values.emplace_back(wanted->second);
    }
  return query;
}

store::Rows sums_of(Transaction& tx, std::string_view table, std::string_view group,
                    std::span<const std::string_view> sums, const SumQuery& query) {
  std::string columns;
  for (const std::string_view name : sums)
    columns += fmt::format(", CAST(COALESCE(SUM({}), 0) AS BIGINT)", name);
  return tx.run(
      fmt::format("SELECT {}{} FROM {}{} GROUP BY 1 ORDER BY 1", group, columns, table, query.where),
      query.values);
}

void read_sums(const store::Row& row, std::span<const std::string_view> sums, std::string_view prefix,
               json::object& item) {
  for (size_t i = 0; i < sums.size(); ++i)
    item[fmt::format("{}{}", prefix, sums[i])] = store::as_integer(row.at(i + 1), sums[i]);
}

// What people call it; empty if it is no more.
std::string name_of(const Tables& tables, Transaction& tx, std::string_view by, const std::string& id) {
  const auto name = [](const auto& row, auto member) { return row ? (*row).*member : std::string(); };
  if (by == "key") return name(tables.keys.find(tx, id), &KeyRow::name);
  if (by == "member") return name(tables.members.find(tx, id), &Member::email);
  if (by == "endpoint") return name(tables.endpoints.find(tx, id), &Endpoint::name);
  return id;
}

std::string day_text(int64_t ms) {
  const std::chrono::year_month_day date(std::chrono::sys_days(std::chrono::days(ms / kDayMs)));
  return fmt::format("{:04}-{:02}-{:02}", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                     static_cast<unsigned>(date.day()));
}

json::object new_item(const Tables& tables, Transaction& tx, const Grouping& grouping,
                      const store::Value& group) {
  json::object item;
  if (grouping.by == "day") {
    const int64_t ms = store::as_integer(group, "a day");
    item["day"] = day_text(ms);
    item["day_ms"] = ms;
  } else {
    const std::string& id = store::as_text(group, grouping.by);
    item[grouping.by] = id;
    item["name"] = name_of(tables, tx, grouping.by, id);
  }
  for (const std::string_view name : kSums) item[name] = 0;
  if (!grouping.machine_column.empty())
    for (const std::string_view name : kMachineSums) item[fmt::format("machine_{}", name)] = 0;
  return item;
}

// What belongs to the same group is one item, whichever table it comes from.
json::array summary_items(const Tables& tables, const ApiCall& call, Transaction& tx,
                          const Grouping& grouping) {
  std::map<store::Value, json::object> items;
  const auto add = [&](const store::Rows& rows, std::span<const std::string_view> sums,
                       std::string_view prefix) {
    for (const store::Row& row : rows.rows) {
      const auto [place, is_new] = items.try_emplace(row.at(0));
      if (is_new) place->second = new_item(tables, tx, grouping, row.at(0));
      read_sums(row, sums, prefix, place->second);
    }
  };
  add(sums_of(tx, "usage_hours", grouping.column, kSums, sum_query(call, kConditions)), kSums, "");
  const bool is_of_machines =
      !call.query.contains("key") && !call.query.contains("member") && !call.query.contains("model");
  constexpr std::array<std::string_view, 1> kEndpoint{"endpoint"};
  if (!grouping.machine_column.empty() && is_of_machines)
    add(sums_of(tx, "machine_hours", grouping.machine_column, kMachineSums, sum_query(call, kEndpoint)),
        kMachineSums, "machine_");
  json::array array;
  for (auto& [group, item] : items) array.push_back(std::move(item));
  return array;
}

json::object total_of(const json::array& items) {
  json::object total;
  for (const std::string_view name : kSums) total[name] = 0;
  for (const json::value& item : items)
    for (const auto& member : item.get_object())
      if (member.value().is_int64() && member.key() != "day_ms") {
        json::value& sum = total[member.key()];
        sum = (sum.is_int64() ? sum.get_int64() : 0) + member.value().get_int64();
      }
  return total;
}

ApiAnswer summary(const Tables& tables, ApiCall& call, Transaction& tx) {
  const bool csv = take_csv(call);
  allow_only(call.query, {"by", "from_ms", "to_ms", "key", "member", "endpoint", "model"});
  const Grouping& grouping = grouping_of(call);
  json::array items = summary_items(tables, call, tx, grouping);
  if (!csv) {
    json::object total = total_of(items);
    return {.body =
                json::object{{"by", grouping.by}, {"items", std::move(items)}, {"total", std::move(total)}}};
  }
  std::vector<std::string> names;
  for (const auto& member :
       new_item(tables, tx, grouping,
                grouping.by == "day" ? store::Value(int64_t{0}) : store::Value(std::string())))
    names.emplace_back(member.key());
  return csv_answer(names, items, "");
}

ApiRoute summary_route(const Tables& tables) {
  return {
      .spec =
          {.method = net::Method::get,
           .path = "/api/v1/usage/summary",
           .query =
               R"([{"name":"by","in":"query","schema":{"enum":["key","member","endpoint","model","day"]}},)"
               R"({"name":"from_ms","in":"query","schema":{"type":"integer"}},)"
               R"({"name":"to_ms","in":"query","schema":{"type":"integer"}},)"
               R"({"name":"key","in":"query","schema":{"type":"string"}},)"
               R"({"name":"member","in":"query","schema":{"type":"string"}},)"
               R"({"name":"endpoint","in":"query","schema":{"type":"string"}},)"
               R"({"name":"model","in":"query","schema":{"type":"string"}},)"
               R"({"name":"format","in":"query","schema":{"enum":["json","csv"]}}])",
           .summary = "sums of usage, by day unless `by` says what; money in nanodollars"},
      .needs = Needs::viewer,
      .handle = [&tables](ApiCall& call, Transaction& tx) { return summary(tables, call, tx); }};
}

}  // namespace

std::vector<ApiRoute> usage_api(const ApiServices& services) {
  const Tables& tables = services.tables;
  const Collection<UsageRow> requests{
      .path = "/api/v1/usage", .noun = "request's usage", .rows = tables.usage, .verbs = kListOnly};
  const Collection<UsageHour> hours{
      .path = "/api/v1/usage/hours", .noun = "usage hour", .rows = tables.usage_hours, .verbs = kListOnly};
  const Collection<MachineHour> machines{.path = "/api/v1/usage/machines",
                                         .noun = "machine hour",
                                         .rows = tables.machine_hours,
                                         .verbs = kListOnly};
  return {list_route(requests, "started_ms"), list_route(hours, "hour_ms"), list_route(machines, "hour_ms"),
          summary_route(tables)};
}

}  // namespace neutrino::cloud
