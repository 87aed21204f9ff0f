#include "cloud/usage_sums.h"

#include "cloud/budget_rows.h"
#include "cloud/row_sql.h"

namespace neutrino::cloud {
namespace {

bool has_failed(const UsageRow& row) { return row.status == 0 || row.status >= 400; }

const std::string& add_hour_sql() {
  constexpr std::string_view kAdded[] = {"requests",      "failed",        "input_tokens",
                                         "cached_tokens", "output_tokens", "reasoning_tokens",
                                         "queue_ms",      "replica_ms",    "cost"};
  static const std::string sql = add_sql<UsageHour>("usage_hours", kAdded);
  return sql;
}

}  // namespace

void UsageSums::add(const UsageRow& row, int64_t sign) {
  const int64_t hour_ms = row.started_ms / kHourMs * kHourMs;
  UsageHour& hour = hours_[{row.workspace, hour_ms, row.endpoint, row.key, row.member, row.model}];
  hour.workspace = row.workspace, hour.hour_ms = hour_ms, hour.endpoint = row.endpoint;
  hour.key = row.key, hour.member = row.member, hour.model = row.model;
  hour.requests += sign;
  hour.failed += sign * int64_t{has_failed(row)};
  hour.input_tokens += sign * row.input_tokens;
  hour.cached_tokens += sign * row.cached_tokens;
  hour.output_tokens += sign * row.output_tokens;
  hour.reasoning_tokens += sign * row.reasoning_tokens;
  hour.queue_ms += sign * row.queue_ms;
  hour.replica_ms += sign * row.replica_ms;
  hour.cost += sign * row.cost;
}

std::vector<UsageHour> UsageSums::differences() const {
  std::vector<UsageHour> all;
  for (const auto& [key, hour] : hours_) all.push_back(hour);
  return all;
}

void UsageSums::write_hours(store::Transaction& tx) const {
  for (const auto& [key, hour] : hours_) add_to_row(tx, add_hour_sql(), hour);
}

}  // namespace neutrino::cloud
