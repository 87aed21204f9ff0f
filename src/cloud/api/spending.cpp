// What things cost and how much may be spent, through the API: the price book, and budgets.
#include <algorithm>

#include "cloud/api/collection.h"
#include "cloud/api/field_checks.h"
#include "cloud/budget_rows.h"

namespace neutrino::cloud {
namespace {

using store::Transaction;

constexpr int64_t kTokenPriceMax =
    1'000'000'000;  // nanodollars: a dollar a token; with it, no request's cost overflows

// ---- prices

void check_price(ApiCall&, Transaction&, Price& price, const Price*) {
  check_line("model", price.model, 200);
  if (price.model.empty()) refuse_field("model", "a model's name, or * for all others", price.model);
  check_range("input", price.input, 0, kTokenPriceMax);
  check_range("cached_input", price.cached_input, 0, kTokenPriceMax);
  check_range("output", price.output, 0, kTokenPriceMax);
}

// ---- budgets

void check_one_of(const std::string& path, const std::string& value,
                  std::initializer_list<std::string_view> names) {
  if (std::find(names.begin(), names.end(), value) != names.end()) return;
  std::string list;
  for (const std::string_view name : names) list.append(list.empty() ? "" : ", ").append(name);
  refuse_field(path, "one of " + list, value);
}

void check_subject(const Tables& tables, const ApiCall& call, Transaction& tx, const Budget& budget) {
  const std::string& id = budget.subject_id;
  const std::string& workspace = call.caller.workspace;
  check_one_of("subject", budget.subject, {"workspace", "key", "member"});
  if (budget.subject == "workspace" && !id.empty()) refuse_field("subject_id", "empty for the workspace", id);
  if (budget.subject == "key") {
    const auto key = tables.keys.find(tx, id);
    if (!key || key->workspace != workspace) refuse_field("subject_id", "a key of this workspace", id);
  }
  if (budget.subject == "member") {
    const auto member = tables.members.find(tx, id);
    if (!member || member->workspace != workspace)
      refuse_field("subject_id", "a member of this workspace", id);
  }
}

// What was used in the period counts, whenever the budget was made. Marks that it has passed already are not told again, and those that
// a larger amount puts off are told when they are reached.
void check_budget(const Tables& tables, const ApiCall& call, Transaction& tx, Budget& budget,
                  const Budget* before) {
  check_name("name", budget.name, 63);
  check_subject(tables, call, tx, budget);
  check_one_of("unit", budget.unit, {"nanodollars", "tokens"});
  check_one_of("period", budget.period, {"day", "month", "total"});
  check_range("amount", budget.amount, 0, limits::kAmountMax);
  if (!before || before->period != budget.period) {
    reckon(tx, budget, call.now_ms);
    budget.told_percent = 0;
  } else if (before->amount != budget.amount) {
    bring_up_to_date(tx, budget, call.now_ms);
    budget.told_percent = std::min(budget.told_percent, mark_reached(budget));
  }
}

// People write a key's name or a member's address; kept is the id.
void use_id_of_subject(const Tables& tables, ApiCall& call, Transaction& tx) {
  if (!call.body.is_object()) return;
  const json::value* subject = call.body.get_object().if_contains("subject");
  json::value* id = call.body.get_object().if_contains("subject_id");
  if (!subject || !subject->is_string() || !id || !id->is_string()) return;
  const std::string text(id->get_string());
  if (!store::is_storable_text(text)) return;
  const auto find = [&](const auto& table, std::string field) {
    const auto found = table.list(tx, {.filters = {{.field = "workspace", .value = call.caller.workspace},
                                                   {.field = std::move(field), .value = text}},
                                       .limit = 1});
    if (!found.rows.empty()) *id = found.rows[0].id;
  };
  if (subject->get_string() == "key") find(tables.keys, "name");
  if (subject->get_string() == "member") find(tables.members, "email");
}

bool is_admin(const Caller& caller) { return caller.role == Role::admin; }

// An admin sees all; others those of their keys, and their own.
std::vector<std::string> own_subjects(const Tables& tables, const ApiCall& call, Transaction& tx) {
  std::vector<std::string> ids;
  if (!call.caller.key.empty()) ids.push_back(call.caller.key);
  if (call.caller.member.empty()) return ids;
  ids.push_back(call.caller.member);
  const auto keys = tables.keys.list(tx, {.filters = {{.field = "workspace", .value = call.caller.workspace},
                                                      {.field = "member", .value = call.caller.member}},
                                          .limit = limits::kStorePageRows});
  for (const KeyRow& key : keys.rows) ids.push_back(key.id);
  return ids;
}

std::vector<store::Filter> own_budgets(const Tables& tables, const ApiCall& call, Transaction& tx) {
  if (is_admin(call.caller)) return {};
  store::Filter filter{.field = "subject_id", .compare = store::Compare::any_of};
  for (const std::string& id : own_subjects(tables, call, tx)) filter.values.emplace_back(id);
  return {filter};
}

bool sees_budget(const Tables& tables, const ApiCall& call, Transaction& tx, const Budget& budget) {
  return is_admin(call.caller) || std::ranges::count(own_subjects(tables, call, tx), budget.subject_id) > 0;
}

// A period may have begun in which nothing was used yet.
void show_budgets(const ApiCall& call, Transaction& tx, const std::vector<Budget>& budgets,
                  std::vector<json::object>& objects) {
  for (size_t i = 0; i < budgets.size(); ++i) {
    Budget budget = budgets[i];
    bring_up_to_date(tx, budget, call.now_ms);
    objects[i]["period_begin_ms"] = budget.period_begin_ms;
    objects[i]["spent"] = budget.spent;
    objects[i]["told_percent"] = budget.told_percent;
    objects[i]["left"] = std::max<int64_t>(0, budget.amount - budget.spent);
  }
}

std::vector<ApiRoute> budget_routes(const Tables& tables) {
  const Collection<Budget> budgets{
      .path = "/api/v1/budgets",
      .item_path = "/api/v1/budgets/{id}",
      .noun = "budget",
      .rows = tables.budgets,
      .write = Needs::admin,
      .computed = {{"left", {{"type", "integer"}, {"description", "of the amount, in this period"}}}},
      .check = [&tables](ApiCall& call, Transaction& tx, Budget& budget,
                         const Budget* before) { check_budget(tables, call, tx, budget, before); },
      .narrow = [&tables](ApiCall& call, Transaction& tx) { return own_budgets(tables, call, tx); },
      .sees = [&tables](ApiCall& call, Transaction& tx,
                        const Budget& budget) { return sees_budget(tables, call, tx, budget); },
      .show = [](ApiCall& call, Transaction& tx, const std::vector<Budget>& rows,
                 std::vector<json::object>& objects) { show_budgets(call, tx, rows, objects); }};
  std::vector<ApiRoute> routes = collection_routes(budgets);
  for (ApiRoute& route : routes)
    route.handle = [&tables, handle = route.handle](ApiCall& call, Transaction& tx) {
      use_id_of_subject(tables, call, tx);
      return handle(call, tx);
    };
  return routes;
}

}  // namespace

std::vector<ApiRoute> spending_api(const ApiServices& services) {
  const Tables& tables = services.tables;
  const Collection<Price> prices{.path = "/api/v1/prices",
                                 .item_path = "/api/v1/prices/{id}",
                                 .noun = "price",
                                 .rows = tables.prices,
                                 .write = Needs::platform,
                                 .check = check_price};
  std::vector<ApiRoute> routes = collection_routes(prices);
  for (ApiRoute& route : budget_routes(tables)) routes.push_back(std::move(route));
  return routes;
}

}  // namespace neutrino::cloud
