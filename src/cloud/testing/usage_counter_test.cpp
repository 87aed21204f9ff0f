// A control plane of which only the counting of usage is there: `usage-counter DATABASE JOURNAL` counts what the journal has and says
// so with a byte for each batch, until all is counted or it is killed.
#include <unistd.h>

#include "base/clock.h"
#include "cloud/testing/programs.h"
#include "cloud/usage_ledger.h"

namespace neutrino::cloud::testing {

int run_usage_counter(int argc, char** argv) {
  constexpr size_t kTogether = 20;
  if (argc != 3) return 2;
  store::Database database({.url = argv[1]});
  migrate(database, kCloudComponent, cloud_migrations());
  const Tables tables;
  const SystemClock clock;
  UsageLedger ledger(database, tables, clock);
  UsageJournal journal(argv[2]);
  for (;;) {
    const int64_t counted = ledger.counted(journal.id());
    const std::vector<UsageRecord> records = journal.read_after(counted, kTogether);
    if (records.empty()) return 0;
    journal.forget(ledger.count(journal.id(), records, counted));
    if (::write(STDOUT_FILENO, ".", 1) != 1) return 1;
  }
}

}  // namespace neutrino::cloud::testing
