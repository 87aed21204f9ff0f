// The front door of store/: a database with one writer and several readers.
//
//   Database database({.url = home / "cloud.db"});
//   migrate(database, "cloud", kMigrations);
//   database.write([&](Transaction& tx) { endpoints.insert(tx, endpoint); });             // returns when it is durable
//   const auto page = database.read([&](Transaction& tx) { return endpoints.list(tx, {.limit = 100}); });
//
// Writes are queued for one thread, which takes all that wait as a group: each in a savepoint of its own, so that one which fails
// harms no other, and all in one commit, so that many writers share one wait for the disk. A caller hears of success only after
// that commit. SQLite and PostgreSQL are used in the same way; writers of several processes exclude each other.
//
// When a PostgreSQL server goes away in the middle, the group is tried again on a new connection. If the server went while it was
// committing, the group's number, which is written with it, tells whether it took effect; so nothing is applied twice. Work
// may therefore run more than once; only its last run counts, and it must change nothing but the transaction and its own result.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>

#include "base/limits.h"
#include "store/transaction.h"

namespace neutrino::store {

struct DatabaseOptions {
  std::string url;  // see ConnectionOptions
  Durability durability = Durability::full;
  int64_t readers = 4;                                     // connections for reading
  int64_t queued_writes_max = limits::kStoreQueuedWrites;  // beyond it: resource_exhausted
  std::chrono::milliseconds reconnect_timeout{10'000};     // how long a lost server is looked for
  std::chrono::milliseconds statement_timeout{30'000};
  std::chrono::milliseconds busy_timeout{10'000};
};

struct DatabaseCounts {
  int64_t writes = 0;      // acknowledged
  int64_t commits = 0;     // groups; a fraction of the writes under load
  int64_t reconnects = 0;  // of the writer
  int64_t resolved = 0;    // commits in doubt that turned out to have taken effect
};

class Database {
 public:
  using Work = std::function<void(Transaction&)>;
  using Done = std::function<void(std::exception_ptr)>;

  // Connects, makes the file if need be and brings this folder's own tables up to date. Throws Error: see connect() and migrate().
  explicit Database(DatabaseOptions options);
  ~Database();  // finishes what is queued
  Database(const Database&) = delete;

  // Runs `work` and returns what it returns, once that is durable. Throws what `work` throws (it has no effect then);
  // Error{resource_exhausted, reason "store_overloaded"} when too much is queued; Error{unavailable, reason "not_committed"} when
  // the database was lost; Error{unavailable, reason "fate_unknown"} when it was lost while committing and did not come back in time.
  template <typename F>
  auto write(F&& work) -> std::invoke_result_t<F&, Transaction&> {
    return with_result(std::forward<F>(work), [this](const Work& inner) { write_and_wait(inner); });
  }

  // The same without waiting: `done` is called on the writer's thread, once, with null when it is durable; it must be short and
  // must not throw or wait for a write. Throws only for a full queue.
  void write_async(Work work, Done done);

  // Runs `work` on one moment of the database; it cannot change anything. May run it again on a new connection.
  template <typename F>
  auto read(F&& work) -> std::invoke_result_t<F&, Transaction&> {
    return with_result(std::forward<F>(work), [this](const Work& inner) { run_read(inner); });
  }

  // Calls `listener` on the writer's thread after each commit of this process that appended to the change log.
  // The returned handle ends that; it may outlive the database.
  using Listener = std::function<void()>;
  std::shared_ptr<void> on_commit(Listener listener);

  DatabaseCounts counts() const;
  const DatabaseOptions& options() const { return options_; }

 private:
  struct Write {
    Work work;
    Done done;
    std::exception_ptr error;  // of its last run
    bool changed_log = false;
  };
  using Group = std::vector<Write>;

  // Stores what `work` returns beside it, as `run` takes work without a result.
  template <typename F, typename Run>
  static auto with_result(F&& work, Run run) -> std::invoke_result_t<F&, Transaction&> {
    using R = std::invoke_result_t<F&, Transaction&>;
    if constexpr (std::is_void_v<R>) {
      run([&](Transaction& tx) { work(tx); });
    } else {
      std::optional<R> result;
      run([&](Transaction& tx) { result.emplace(work(tx)); });
      return std::move(*result);
    }
  }

  void stop();
  void write_and_wait(const Work& work);
  void run_read(const Work& work);

  // The writer's thread.
  void run_writer();
  bool take_group(Group& group);
  void commit_group(Group& group);
  void commit_each(Group& group);
  void try_group(Group& group, bool& in_doubt);
  void run_one(Write& write);
  void connect_writer();
  void write_group_number();
  bool group_number_is_written();
  void give_up(Group& group, const std::exception_ptr& error, bool in_doubt);
  void answer(Group& group, const std::exception_ptr& error);
  void tell_listeners(const Group& group);

  // Readers.
  std::unique_ptr<Connection> take_reader();
  void give_reader(std::unique_ptr<Connection> reader);

  ConnectionOptions connection_options(Access access) const;

  const DatabaseOptions options_;
  const std::string writer_id_;  // names this object's groups in the database

  mutable std::mutex mutex_;  // guards the queue
  std::condition_variable queue_changed_;
  std::deque<Write> queue_;
  bool closing_ = false;

  std::unique_ptr<Connection> writer_;  // the writer thread's, as are the next two
  int64_t group_number_ = 0;
  std::optional<std::chrono::steady_clock::time_point> lost_since_;  // nobody could be connected since then

  std::mutex readers_mutex_;
  std::condition_variable reader_free_;
  std::vector<std::unique_ptr<Connection>> readers_;  // idle ones
  int64_t readers_out_ = 0;

  struct Listeners {
    std::mutex mutex;
    int64_t next = 0;
    std::map<int64_t, Listener> all;
  };
  std::shared_ptr<Listeners> listeners_ = std::make_shared<Listeners>();

  std::atomic<int64_t> writes_{0}, commits_{0}, reconnects_{0}, resolved_{0};
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace neutrino::store
