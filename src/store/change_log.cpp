#include "store/change_log.h"

#include "base/clock.h"
#include "base/log.h"
#include "store/table.h"

namespace neutrino::store {
namespace {

constexpr int64_t kPruneEvery = 1024;           // changes
constexpr int64_t kRestoreGap = 1'000'000'000;  // more than were written between a backup and its restore

int64_t append_at(Transaction& transaction, int64_t seq, const Change& change) {
  transaction.execute(
      "INSERT INTO store_changes (seq, workspace, kind, id, operation, etag, at_ms) VALUES (?, ?, ?, ?, ?, "
      "?, ?)",
      seq, change.workspace, change.kind, change.id, change.operation, seq, SystemClock().unix_ms());
  transaction.note_change();
  return seq;
}

}  // namespace

// Rows are never taken from the end of the log, so the largest number is the last that was given.
int64_t last_change(Transaction& transaction) {
  const auto row = transaction.query_row("SELECT COALESCE(MAX(seq), 0) FROM store_changes");
  return as_integer(row->at(0), "store_changes.seq");
}

int64_t append_change(Transaction& transaction, const Change& change) {
  const int64_t seq = append_at(transaction, last_change(transaction) + 1, change);
  if (seq % kPruneEvery == 0)
    transaction.execute("DELETE FROM store_changes WHERE seq <= ?", seq - limits::kStoreChanges);
  return seq;
}

void restart_change_log(Transaction& transaction) {
  const int64_t last = last_change(transaction);
  transaction.execute("DELETE FROM store_changes");
  append_at(transaction, last + kRestoreGap, {.kind = "database", .operation = "restore"});
}

ChangePage read_changes(Transaction& transaction, const ChangeQuery& query) {
  const auto bounds = transaction.query_row(
      "SELECT COALESCE((SELECT MIN(seq) FROM store_changes), 1), COALESCE((SELECT MAX(seq) FROM "
      "store_changes), 0)");
  const int64_t first = as_integer(bounds->at(0), "seq"), last = as_integer(bounds->at(1), "seq");
  if (query.since < first - 1 || query.since > last)
    throw make_error(ErrorCode::out_of_range,
                     "changes since {} are not kept (there are {} to {}): list again and watch from there",
                     query.since, first, last)
        .with_reason("too_old");
  ListQuery list{.filters = {{.field = "seq", .compare = Compare::greater, .value = query.since}},
                 .limit = query.limit};
  if (!query.workspace.empty()) list.filters.push_back({.field = "workspace", .value = query.workspace});
  static const Table<Change> kTable({.name = "store_changes"});
  Page<Change> page = kTable.list(transaction, list);
  const int64_t seen = page.next.empty() ? last : page.rows.back().seq;
  return {.changes = std::move(page.rows), .seen = seen};
}

ChangeLog::ChangeLog(Database& database) : database_(database) {
  subscription_ = database_.on_commit([this] {
    {
      const std::lock_guard lock(mutex_);
      committed_ = true;
    }
    woken_.notify_one();
  });
  thread_ = std::thread([this] { run(); });
}

ChangeLog::~ChangeLog() {
  subscription_.reset();
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  woken_.notify_all();
  grown_.notify_all();
  thread_.join();
}

ChangePage ChangeLog::wait(const ChangeQuery& query, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  ChangePage page{.seen = query.since};
  while (true) {
    page = database_.read([&](Transaction& transaction) {
      return read_changes(transaction,
                          {.since = page.seen, .workspace = query.workspace, .limit = query.limit});
    });
    if (!page.changes.empty()) return page;
    std::unique_lock lock(mutex_);
    ++waiting_;
    woken_.notify_one();
    const bool grown = grown_.wait_until(lock, deadline, [&] { return closing_ || last_ > page.seen; });
    --waiting_;
    if (!grown || closing_) return page;
  }
}

std::shared_ptr<void> ChangeLog::on_change(Listener listener) {
  const std::lock_guard lock(listeners_mutex_);
  const int64_t number = ++listeners_made_;
  listeners_.emplace(number, std::move(listener));
  woken_.notify_one();
  return {nullptr, [this, number](void*) {
            const std::lock_guard inner(listeners_mutex_);
            listeners_.erase(number);
          }};
}

// Looks after each commit of this process and, while somebody waits, often enough to see those of others.
void ChangeLog::run() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      woken_.wait_for(lock, std::chrono::milliseconds(limits::kStoreChangesPollMilliseconds),
                      [&] { return closing_ || committed_; });
      if (closing_) return;
      committed_ = false;
      if (waiting_ == 0 && listeners_empty()) continue;
    }
    try {
      look();
    } catch (const Error& error) {
      spdlog::warn("change log cannot be read error=\"{}\"", error.message());
    }
  }
}

void ChangeLog::look() {
  const int64_t last = database_.read([](Transaction& transaction) { return last_change(transaction); });
  {
    const std::lock_guard lock(mutex_);
    if (last == last_) return;
    last_ = last;
  }
  grown_.notify_all();
  const std::lock_guard lock(listeners_mutex_);
  for (const auto& [number, listener] : listeners_) listener(last);
}

bool ChangeLog::listeners_empty() {
  const std::lock_guard lock(listeners_mutex_);
  return listeners_.empty();
}

}  // namespace neutrino::store
