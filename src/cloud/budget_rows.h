// Budgets in the database: periods, what was spent in them, the marks at which an event is written, and what gateways are told.
//
// A budget's `spent` is the sum of the usage hours of its subject since its period began, at every moment: the transaction that adds to an
// hour adds to the budgets. Periods begin at whole hours (UTC), so hours tell exactly what belongs to which; when a period begins, or a
// budget is made in the middle of one, `spent` is reckoned from them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cloud/route_table.h"
#include "cloud/schema.h"
#include "store/transaction.h"

namespace neutrino::cloud {

inline constexpr int64_t kHourMs = 3'600'000;
inline constexpr int64_t kDayMs = 24 * kHourMs;

// When the period began that `now_ms` is in; 0 for "total". Unix time, UTC.
int64_t period_begin_ms(std::string_view period, int64_t now_ms);

// What was used in an hour, as a budget counts it.
int64_t amount_of(const Budget& budget, const UsageHour& hour);
bool counts_against(const Budget& budget, const UsageHour& hour);  // is it of the subject and in the period

// Reckons `spent` if another period has begun since. Of a new budget: always.
void bring_up_to_date(store::Transaction& tx, Budget& budget, int64_t now_ms);
void reckon(store::Transaction& tx, Budget& budget, int64_t now_ms);
int64_t mark_reached(const Budget& budget);  // 0, 80 or 100 percent

// Adds the differences of hours, which are in the hours' rows already, to all budgets that they count against; writes events.
void charge_budgets(store::Transaction& tx, const Tables& tables, const std::vector<UsageHour>& differences,
                    int64_t now_ms);

// The hard budgets of all workspaces, for route tables.
class HardBudgets {
 public:
  HardBudgets(store::Transaction& tx, const Tables& tables, int64_t now_ms);

  const std::vector<BudgetRoute>& routes() const { return routes_; }
  // Those that a key's requests count against: its own, its member's, its workspace's.
  std::vector<std::string> of(const KeyRow& key) const;

 private:
  std::vector<BudgetRoute> routes_;
  std::map<std::string, std::vector<std::string>, std::less<>> ids_;  // by "workspace/key/id" and the like
};

}  // namespace neutrino::cloud
