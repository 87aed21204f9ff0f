// Where usage becomes money: gateways' records are counted, each once; how long replicas ran; what was estimated is settled later.
//
// A gateway sends the records of its journal again and again until it hears that they are counted. A transaction writes a record's row, adds
// it to its hour and its budgets, and remembers how far that journal is counted: whoever dies, a record is there wholly or not at
// all, and its unique id keeps what comes twice from counting twice.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "cloud/budget_rows.h"
#include "cloud/machine_hours.h"
#include "cloud/provider.h"
#include "cloud/schema.h"
#include "cloud/usage_journal.h"
#include "cloud/usage_settler.h"
#include "store/database.h"

namespace neutrino::cloud {

struct UsageLedgerOptions {
  std::function<void()> between_steps = {};  // of a transaction; what it throws undoes it. For tests
};

class UsageLedger {
 public:
  UsageLedger(store::Database& database, const Tables& tables, const Clock& clock,
              UsageLedgerOptions options = {});

  // Counts what a journal (UsageJournal::id()) has after a sequence number: `records` is what read_after(after) gave. Returns how far it
  // is counted now: the gateway may forget so much. Without `after` the records say it themselves. If it is beyond what is counted,
  // something came before its turn: nothing is done. Any thread. Throws Error: see store::Database::write().
  int64_t count(const std::string& gateway, const std::vector<UsageRecord>& records,
                std::optional<int64_t> after = {});

  // How far a gateway's journal is counted, and the hard budgets with what was spent: for a route table from one moment, read
  // both in one transaction.
  int64_t counted(store::Transaction& tx, const std::string& gateway) const;
  int64_t counted(const std::string& gateway) const;
  HardBudgets hard_budgets(store::Transaction& tx) const {
    return HardBudgets(tx, tables_, clock_.unix_ms());
  }

  // Adds the time that processes ran since they were last counted, in one transaction. As often as one likes: every minute will do,
  // and once when one has ended.
  void count_machines(std::span<const RunningReplica> replicas, int64_t now_ms);

  // Looks for what was estimated in the replicas' own logs; returns how many rows are settled now. One thread, the provider's; to be
  // called every few seconds, and before a replica is removed.
  int64_t settle(const ReadReplicaLog& read_log, int64_t now_ms) { return settler_.settle(read_log, now_ms); }

  // Removes rows that are older than limits::kUsageRowDays; hours stay. A bounded number a call; returns it.
  int64_t expire(int64_t now_ms);

 private:
  void step() const {
    if (options_.between_steps) options_.between_steps();
  }
  GatewayRow gateway_row(store::Transaction& tx, const std::string& gateway) const;
  void count_new(store::Transaction& tx, const GatewayRow& gateway,
                 const std::vector<UsageRecord>& records) const;

  store::Database& database_;
  const Tables& tables_;
  const Clock& clock_;
  const UsageLedgerOptions options_;
  UsageSettler settler_;
};

}  // namespace neutrino::cloud
