// Hard budgets: what a request may cost at most is reserved before it is sent to a replica, and settled with what it did cost.
//
// So requests in flight cannot overrun a budget together. A budget's `spent` comes with each route table and contains the usage up to
// a sequence number; what was settled here and is not contained yet counts on top. One thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "cloud/route_table.h"

namespace neutrino::cloud {

struct Charge {
  int64_t tokens = 0;
  int64_t nanodollars = 0;
};

class Budgets {
 public:
  void update(std::span<const BudgetRoute> budgets, int64_t usage_sequence);

  // All of them or none; the first that has too little left is returned, else empty. A budget that no table has named is none.
  std::string reserve(std::span<const std::string> budgets, Charge charge);
  // Gives a reservation back and counts what was used, under its usage record's number; 0: nothing was used.
  void settle(std::span<const std::string> budgets, Charge reserved, Charge used, int64_t sequence);

  int64_t left(const std::string& budget) const;  // without what is reserved; may be negative

 private:
  struct State {
    bool counts_tokens = false;
    bool named = false;  // by the last table; else only kept for what is still reserved
    int64_t limit = 0, spent = 0, reserved = 0;
    std::deque<std::pair<int64_t, int64_t>> uncounted;  // (sequence, amount) that `spent` does not contain
    int64_t uncounted_sum = 0;
    int64_t amount(Charge charge) const { return counts_tokens ? charge.tokens : charge.nanodollars; }
    int64_t left() const { return limit - spent - uncounted_sum - reserved; }
  };
  std::map<std::string, State> budgets_;
};

}  // namespace neutrino::cloud
