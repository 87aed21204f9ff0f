// What rows of usage add up to: their hours, and the budgets that they count against.
//
// Whoever changes rows collects the differences here and writes them in the same transaction, so that rows, hours and budgets agree
// at every moment.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "cloud/schema.h"

namespace neutrino::cloud {

class UsageSums {
 public:
  void add(const UsageRow& row) { add(row, 1); }
  void correct(const UsageRow& before, const UsageRow& after) { add(before, -1), add(after, 1); }

  std::vector<UsageHour> differences() const;  // numbers may be negative
  void write_hours(store::Transaction& tx) const;

 private:
  using Key = std::tuple<std::string, int64_t, std::string, std::string, std::string, std::string>;
  void add(const UsageRow& row, int64_t sign);
  std::map<Key, UsageHour> hours_;
};

}  // namespace neutrino::cloud
