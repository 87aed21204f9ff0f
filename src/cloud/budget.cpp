#include "cloud/budget.h"

#include <utility>

namespace neutrino::cloud {
namespace {

constexpr size_t kUncounted =
    1 << 16;  // beyond that neighbours are added up: they are counted a little later

}  // namespace

void Budgets::update(std::span<const BudgetRoute> budgets, int64_t usage_sequence) {
  std::map<std::string, State> next;
  for (const BudgetRoute& route : budgets) {
    const auto found = budgets_.find(route.id);
    State state = found == budgets_.end() ? State{} : std::move(found->second);
    if (found != budgets_.end()) budgets_.erase(found);
    state.named = true;
    state.counts_tokens = route.unit == "tokens";
    state.limit = route.limit;
    state.spent = route.spent;
    while (!state.uncounted.empty() && state.uncounted.front().first <= usage_sequence) {
      state.uncounted_sum -= state.uncounted.front().second;
      state.uncounted.pop_front();
    }
    next.emplace(route.id, std::move(state));
  }
  for (auto& [id, state] : budgets_) {
    state.named = false;
    if (state.reserved != 0) next.emplace(id, std::move(state));
  }
  budgets_ = std::move(next);
}

std::string Budgets::reserve(std::span<const std::string> budgets, Charge charge) {
  for (const std::string& id : budgets) {
    const auto found = budgets_.find(id);
    const bool counts = found != budgets_.end() && found->second.named;
    if (counts && found->second.left() < found->second.amount(charge)) return id;
  }
  for (const std::string& id : budgets) {
    const auto found = budgets_.find(id);
    if (found != budgets_.end()) found->second.reserved += found->second.amount(charge);
  }
  return {};
}

void Budgets::settle(std::span<const std::string> budgets, Charge reserved, Charge used, int64_t sequence) {
  for (const std::string& id : budgets) {
    const auto found = budgets_.find(id);
    if (found == budgets_.end()) continue;
    State& state = found->second;
    state.reserved -= state.amount(reserved);
    const int64_t amount = state.amount(used);
    if (amount == 0) continue;
    if (state.uncounted.size() < kUncounted)
      state.uncounted.emplace_back(sequence, amount);
    else
      state.uncounted.back() = {sequence, state.uncounted.back().second + amount};
    state.uncounted_sum += amount;
  }
}

int64_t Budgets::left(const std::string& budget) const {
  const auto found = budgets_.find(budget);
  return found == budgets_.end() ? 0 : found->second.left();
}

}  // namespace neutrino::cloud
