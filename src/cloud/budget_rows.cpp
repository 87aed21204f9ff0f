#include "cloud/budget_rows.h"

#include <chrono>
#include <set>

namespace neutrino::cloud {
namespace {

constexpr int64_t kMarks[] = {80, 100};  // percent

std::string subject_key(std::string_view workspace, std::string_view subject, std::string_view id) {
  return fmt::format("{}/{}/{}", workspace, subject, id);
}

std::string period_text(const Budget& budget) {
  if (budget.period == "total") return "in all";
  const std::chrono::sys_days day(std::chrono::days(budget.period_begin_ms / kDayMs));
  const std::chrono::year_month_day date(day);
  return fmt::format("in the {} from {:04}-{:02}-{:02}", budget.period, static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
}

void tell(store::Transaction& tx, const Tables& tables, const Budget& budget, int64_t mark, int64_t now_ms) {
  EventRow event{.workspace = budget.workspace,
                 .reason = mark >= 100 ? "BudgetUsedUp" : "BudgetWarning",
                 .message = fmt::format("budget {}: {} of {} {} used {}, {} percent", budget.name,
                                        budget.spent, budget.amount, budget.unit, period_text(budget), mark),
                 .at_ms = now_ms};
  add_event(tx, tables, event);
}

// Not through the table: what is spent is no change that an operator made, so the etag stays and no watcher wakes.
void write_spent(store::Transaction& tx, const Budget& budget) {
  tx.execute("UPDATE budgets SET period_begin_ms = ?, spent = ?, told_percent = ? WHERE id = ?",
             budget.period_begin_ms, budget.spent, budget.told_percent, budget.id);
}

void charge(store::Transaction& tx, const Tables& tables, Budget& budget,
            const std::vector<UsageHour>& differences, int64_t now_ms) {
  const int64_t period = budget.period_begin_ms;
  bring_up_to_date(tx, budget, now_ms);
  if (budget.period_begin_ms == period)
    for (const UsageHour& hour : differences)
      if (counts_against(budget, hour)) budget.spent += amount_of(budget, hour);
  const int64_t reached = mark_reached(budget);
  for (const int64_t mark : kMarks)
    if (mark > budget.told_percent && mark <= reached) tell(tx, tables, budget, mark, now_ms);
  budget.told_percent = std::max(budget.told_percent, reached);
  write_spent(tx, budget);
}

template <typename Use>
void for_each_budget(store::Transaction& tx, const Tables& tables, std::vector<store::Filter> filters,
                     Use use) {
  store::ListQuery query{.filters = std::move(filters), .limit = limits::kStorePageRows};
  do {
    store::Page<Budget> page = tables.budgets.list(tx, query);
    for (Budget& budget : page.rows) use(budget);
    query.after = page.next;
  } while (!query.after.empty());
}

}  // namespace

int64_t period_begin_ms(std::string_view period, int64_t now_ms) {
  if (period == "total" || now_ms < 0) return 0;
  if (period == "day") return now_ms / kDayMs * kDayMs;
  const std::chrono::sys_days day(std::chrono::days(now_ms / kDayMs));
  const std::chrono::year_month_day date(day);
  const std::chrono::sys_days first(date.year() / date.month() / 1);
  return first.time_since_epoch().count() * kDayMs;
}

int64_t amount_of(const Budget& budget, const UsageHour& hour) {
  return budget.unit == "tokens" ? hour.input_tokens + hour.output_tokens : hour.cost;
}

bool counts_against(const Budget& budget, const UsageHour& hour) {
  if (hour.workspace != budget.workspace || hour.hour_ms < budget.period_begin_ms) return false;
  if (budget.subject == "key") return hour.key == budget.subject_id;
  return budget.subject == "workspace" || hour.member == budget.subject_id;
}

void reckon(store::Transaction& tx, Budget& budget, int64_t now_ms) {
  budget.period_begin_ms = period_begin_ms(budget.period, now_ms);
  const std::string sums = budget.unit == "tokens" ? "input_tokens + output_tokens" : "cost";
  const std::string sql = fmt::format(
      "SELECT CAST(COALESCE(SUM({}), 0) AS BIGINT) FROM usage_hours WHERE workspace = ? AND hour_ms >= ?",
      sums);
  const auto found = budget.subject == "workspace"
                         ? tx.query_row(sql, budget.workspace, budget.period_begin_ms)
                         : tx.query_row(sql + (budget.subject == "key" ? " AND key = ?" : " AND member = ?"),
                                        budget.workspace, budget.period_begin_ms, budget.subject_id);
  budget.spent = store::as_integer(found->at(0), "what was spent");
}

void bring_up_to_date(store::Transaction& tx, Budget& budget, int64_t now_ms) {
  if (period_begin_ms(budget.period, now_ms) == budget.period_begin_ms) return;
  reckon(tx, budget, now_ms);
  budget.told_percent = 0;
}

int64_t mark_reached(const Budget& budget) {
  int64_t reached = 0;
  for (const int64_t mark : kMarks)
    if (static_cast<double>(budget.spent) * 100 >=
        static_cast<double>(budget.amount) * static_cast<double>(mark))
      reached = mark;
  return reached;
}

void charge_budgets(store::Transaction& tx, const Tables& tables, const std::vector<UsageHour>& differences,
                    int64_t now_ms) {
  std::map<std::string, std::set<std::string>> subjects;  // by workspace
  for (const UsageHour& hour : differences)
    subjects[hour.workspace].merge(std::set{hour.key, hour.member, {}});
  for (const auto& [workspace, ids] : subjects) {
    store::Filter of_subjects{.field = "subject_id", .compare = store::Compare::any_of};
    for (const std::string& id : ids) of_subjects.values.emplace_back(id);
    for_each_budget(tx, tables, {{.field = "workspace", .value = workspace}, of_subjects},
                    [&](Budget& budget) { charge(tx, tables, budget, differences, now_ms); });
  }
}

HardBudgets::HardBudgets(store::Transaction& tx, const Tables& tables, int64_t now_ms) {
  for_each_budget(tx, tables, {{.field = "hard", .value = int64_t{1}}}, [&](Budget& budget) {
    bring_up_to_date(tx, budget, now_ms);
    ids_[subject_key(budget.workspace, budget.subject, budget.subject_id)].push_back(budget.id);
    routes_.push_back({.id = budget.id, .unit = budget.unit, .limit = budget.amount, .spent = budget.spent});
  });
}

std::vector<std::string> HardBudgets::of(const KeyRow& key) const {
  std::vector<std::string> ids;
  const auto add = [&](std::string_view subject, const std::string& id) {
    const auto found = ids_.find(subject_key(key.workspace, subject, id));
    if (found != ids_.end()) ids.insert(ids.end(), found->second.begin(), found->second.end());
  };
  add("key", key.id);
  if (!key.member.empty()) add("member", key.member);
  add("workspace", "");
  return ids;
}

}  // namespace neutrino::cloud
