#include "cloud/machine_hours.h"

#include <algorithm>
#include <map>

#include "cloud/budget_rows.h"
#include "cloud/row_sql.h"

namespace neutrino::cloud {
namespace {

const std::string& add_machine_hour_sql() {
  constexpr std::string_view kAdded[] = {"running_ms", "cost"};
  static const std::string sql = add_sql<MachineHour>("machine_hours", kAdded);
  return sql;
}

int64_t counted_until(store::Transaction& tx, const std::string& replica) {
  return store::as_integer(
      tx.query_row("SELECT COALESCE(MAX(until_ms), 0) FROM machine_hours WHERE replica = ?", replica)->at(0),
      "until_ms");
}

class ShapePrices {
 public:
  ShapePrices(store::Transaction& tx, const Tables& tables) : tx_(tx), tables_(tables) {}
  int64_t per_hour(const std::string& shape) {
    const auto known = prices_.find(shape);
    if (known != prices_.end()) return known->second;
    const auto found = tables_.shapes.find(tx_, shape);
    return prices_[shape] = found ? found->price_per_hour : 0;
  }

 private:
  store::Transaction& tx_;
  const Tables& tables_;
  std::map<std::string, int64_t> prices_;
};

// From the hour's beginning to a moment in it: differences of it add up without a rounding error.
int64_t cost_until(int64_t price_per_hour, int64_t ms_of_hour) {
  return static_cast<int64_t>(static_cast<__int128>(price_per_hour) * ms_of_hour / kHourMs);
}

}  // namespace

void add_machine_hours(store::Transaction& tx, const Tables& tables, std::span<const RunningReplica> replicas,
                       int64_t now_ms) {
  ShapePrices prices(tx, tables);
  for (const RunningReplica& replica : replicas) {
    if (replica.started_ms == 0) continue;
    const int64_t end = replica.finished_ms == 0 ? now_ms : std::min(replica.finished_ms, now_ms);
    int64_t at = std::max(replica.started_ms, counted_until(tx, replica.id));
    const int64_t price = prices.per_hour(replica.shape);
    while (at < end) {
      const int64_t hour = at / kHourMs * kHourMs;
      const int64_t until = std::min(end, hour + kHourMs);
      add_to_row(tx, add_machine_hour_sql(),
                 MachineHour{.workspace = replica.workspace,
                             .hour_ms = hour,
                             .endpoint = replica.endpoint,
                             .deployment = replica.deployment,
                             .replica = replica.id,
                             .shape = replica.shape,
                             .running_ms = until - at,
                             .until_ms = until,
                             .memory_bytes = replica.memory_bytes,
                             .cores = replica.cores,
                             .cost = cost_until(price, until - hour) - cost_until(price, at - hour)});
      at = until;
    }
  }
}

}  // namespace neutrino::cloud
