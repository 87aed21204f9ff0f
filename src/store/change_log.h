// The change log: what was written, in the order in which it took effect, for whoever watches.
//
// Every write of a logged table appends one change in its own transaction, numbered without gaps. Writers exclude each other up to
// their commits, so whoever has seen number n has seen all before it: nothing is committed later with a smaller number. The
// number is also the row's new etag.
//
// A watcher lists what there is, remembers the log's number, and asks for what came after it, again and again; after a cut it goes
// on from the number that it has. The log keeps the last limits::kStoreChanges; a watcher that is further behind lists again.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fields.h"
#include "store/database.h"

namespace neutrino::store {

struct Change {
  int64_t seq = 0;
  std::string workspace;  // empty: of no workspace
  std::string kind;       // "endpoint"
  std::string id;
  std::string operation;  // "insert", "update", "erase"
  int64_t etag = 0;       // of the row after it
  int64_t at_ms = 0;      // Unix time
  static constexpr auto fields() {
    return std::tuple(field("seq", &Change::seq, {.key = true}), field("workspace", &Change::workspace),
                      field("kind", &Change::kind), field("id", &Change::id),
                      field("operation", &Change::operation), field("etag", &Change::etag),
                      field("at_ms", &Change::at_ms));
  }
};

// Appends to the log; seq and etag of `change` do not matter. Returns the change's number.
int64_t append_change(Transaction& transaction, const Change& change);

// The number of the last change; 0 of an empty log. Read in the same transaction as a list, it is where to watch that list from.
int64_t last_change(Transaction& transaction);

struct ChangePage {
  std::vector<Change> changes;
  int64_t seen = 0;  // ask for what came after this; it moves on though a workspace has no changes
};

struct ChangeQuery {
  int64_t since = 0;      // only what came after this number
  std::string workspace;  // empty: of all
  int64_t limit = limits::kStorePageRows;
};

// Throws Error{out_of_range, reason "too_old"} if changes after `since` are not kept any more, or if it is of another database.
ChangePage read_changes(Transaction& transaction, const ChangeQuery& query);

// After a restore: the log begins anew with a gap, so that every watcher from before lists again.
void restart_change_log(Transaction& transaction);

// Waits for changes. Those of this process are seen at once, those of other processes within limits::kStoreChangesPollMilliseconds.
class ChangeLog {
 public:
  explicit ChangeLog(Database& database);
  ~ChangeLog();
  ChangeLog(const ChangeLog&) = delete;

  // As read_changes(); if there are none, waits up to `timeout` for some and then returns an empty page.
  ChangePage wait(const ChangeQuery& query, std::chrono::milliseconds timeout);

  // Calls `listener` on this object's thread with the log's last number whenever it has grown. The handle ends that; it is
  // dropped before this object is.
  using Listener = std::function<void(int64_t last)>;
  std::shared_ptr<void> on_change(Listener listener);

 private:
  void run();
  void look();
  bool listeners_empty();

  Database& database_;
  std::mutex mutex_;  // guards all below
  std::condition_variable woken_, grown_;
  bool closing_ = false, committed_ = false;
  int64_t waiting_ = 0;         // callers of wait()
  int64_t last_ = -1;           // the log's last number, as seen by the thread
  std::mutex listeners_mutex_;  // guards the next two; taken alone or after mutex_
  std::map<int64_t, Listener> listeners_;
  int64_t listeners_made_ = 0;
  std::shared_ptr<void> subscription_;
  std::thread thread_;
};

}  // namespace neutrino::store
