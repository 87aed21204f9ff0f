#include "cloud/accountant.h"

#include <chrono>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "cloud/limits.h"
#include "cloud/state_rows.h"
#include "store/idempotency.h"

namespace neutrino::cloud {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPause{2000};
constexpr int64_t kMachinesPeriod = 10, kExpirePeriod = 300;  // in pauses

}  // namespace

Accountant::Accountant(AccountantParts parts) : parts_(std::move(parts)), thread_([this] { run(); }) {}

Accountant::~Accountant() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  woken_.notify_all();
  thread_.join();
  guarded("count machine hours", &Accountant::count_machines);
}

int64_t Accountant::settled_ms() const {
  const std::lock_guard lock(mutex_);
  return settled_ms_;
}

void Accountant::run() {
  for (int64_t round = 0;; ++round) {
    guarded("settle usage", &Accountant::settle);
    if (round % kMachinesPeriod == 0) guarded("count machine hours", &Accountant::count_machines);
    if (round % kExpirePeriod == 0) guarded("remove what is too old", &Accountant::expire);
    std::unique_lock lock(mutex_);
    if (woken_.wait_for(lock, kPause, [&] { return stopping_; })) return;
  }
}

// What could not be done is done the next time.
void Accountant::guarded(const char* what, void (Accountant::*work)()) {
  try {
    (this->*work)();
  } catch (const Error& error) {
    spdlog::warn("cannot {} now error=\"{}\"", what, error.message());
  }
}

void Accountant::settle() {
  const int64_t begin_ms = parts_.clock.unix_ms();
  if (parts_.ledger.settle(parts_.read_log, begin_ms) > 0) parts_.on_spent();
  const std::lock_guard lock(mutex_);
  settled_ms_ = begin_ms;
}

void Accountant::count_machines() {
  std::map<std::string, Replica> rows;
  parts_.database.read([&](store::Transaction& tx) {
    rows.clear();
    for (Replica& replica : list_all(tx, parts_.tables.replicas))
      rows.emplace(replica.id, std::move(replica));
  });
  std::vector<RunningReplica> running;
  for (const ObservedReplica& seen : parts_.observe()) {
    const auto row = rows.find(seen.id);
    if (row == rows.end() || seen.phase == ReplicaPhase::unknown) continue;
    const Replica& replica = row->second;
    running.push_back({.id = seen.id,
                       .workspace = replica.workspace,
                       .endpoint = replica.endpoint,
                       .deployment = replica.deployment,
                       .shape = replica.replica_template.shape,
                       .memory_bytes = replica.replica_template.memory_bytes,
                       .cores = replica.replica_template.cores,
                       .started_ms = seen.started_at_ms,
                       .finished_ms = seen.finished_at_ms});
  }
  parts_.ledger.count_machines(running, parts_.clock.unix_ms());
}

void Accountant::expire() {
  const int64_t now = parts_.clock.unix_ms();
  parts_.ledger.expire(now);
  parts_.database.write([&](store::Transaction& tx) {
    store::expire_answers(tx, now);
    tx.execute("DELETE FROM events WHERE at_ms < ?", now - limits::kEventDays * 86'400'000);
    tx.execute("DELETE FROM sessions WHERE expires_ms > 0 AND expires_ms < ?", now);
  });
}

}  // namespace neutrino::cloud
