#include "store/database.h"

#include <algorithm>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/random.h"
#include "store/migrations.h"
#include "store/schema.h"

namespace neutrino::store {
namespace {

using std::chrono::steady_clock;
constexpr std::chrono::milliseconds kRetryPause{50};

// A transaction that is undone unless it was committed.
class Scope {
 public:
  explicit Scope(Connection& connection) : connection_(connection) { connection_.begin(); }
  Scope(const Scope&) = delete;
  ~Scope() {
    if (connection_.in_transaction()) connection_.roll_back();
  }

 private:
  Connection& connection_;
};

}  // namespace

Database::Database(DatabaseOptions options)
    : options_(std::move(options)), writer_id_(fmt::format("{:016x}", system_entropy())) {
  writer_ = connect(connection_options(Access::read_write));
  thread_ = std::thread([this] { run_writer(); });
  try {
    migrate(*this, kStoreComponent, store_migrations());
  } catch (...) {
    stop();
    throw;
  }
}

Database::~Database() { stop(); }

void Database::stop() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  queue_changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

ConnectionOptions Database::connection_options(Access access) const {
  return {.url = options_.url,
          .access = access,
          .durability = options_.durability,
          .statement_timeout = options_.statement_timeout,
          .busy_timeout = options_.busy_timeout};
}

DatabaseCounts Database::counts() const {
  return {.writes = writes_, .commits = commits_, .reconnects = reconnects_, .resolved = resolved_};
}

// ---- callers

void Database::write_async(Work work, Done done) {
  {
    const std::lock_guard lock(mutex_);
    check(!closing_, "a write to a database that is being closed");
    if (std::ssize(queue_) >= options_.queued_writes_max)
      throw make_error(ErrorCode::resource_exhausted, "{} writes wait for the database already",
                       queue_.size())
          .with_reason("store_overloaded");
    queue_.push_back({.work = std::move(work), .done = std::move(done)});
  }
  queue_changed_.notify_one();
}

void Database::write_and_wait(const Work& work) {
  check(std::this_thread::get_id() != thread_.get_id(), "the writer's thread would wait for itself");
  // Shared, as the writer's thread may still be inside of set_value() when this one goes on.
  const auto promise = std::make_shared<std::promise<void>>();
  write_async(work, [promise](std::exception_ptr error) {
    if (error)
      promise->set_exception(std::move(error));
    else
      promise->set_value();
  });
  promise->get_future().get();
}

std::shared_ptr<void> Database::on_commit(Listener listener) {
  const std::lock_guard lock(listeners_->mutex);
  const int64_t number = listeners_->next++;
  listeners_->all.emplace(number, std::move(listener));
  return {nullptr, [weak = std::weak_ptr(listeners_), number](void*) {
            if (const auto listeners = weak.lock()) {
              const std::lock_guard inner(listeners->mutex);
              listeners->all.erase(number);
            }
          }};
}

// ---- readers

std::unique_ptr<Connection> Database::take_reader() {
  std::unique_lock lock(readers_mutex_);
  reader_free_.wait(lock, [&] { return readers_out_ < options_.readers; });
  ++readers_out_;
  if (readers_.empty()) return nullptr;
  std::unique_ptr<Connection> reader = std::move(readers_.back());
  readers_.pop_back();
  return reader;
}

void Database::give_reader(std::unique_ptr<Connection> reader) {
  {
    const std::lock_guard lock(readers_mutex_);
    --readers_out_;
    if (reader) readers_.push_back(std::move(reader));
  }
  reader_free_.notify_one();
}

void Database::run_read(const Work& work) {
  struct Lease {
    Database& database;
    std::unique_ptr<Connection> reader;
    ~Lease() { database.give_reader(std::move(reader)); }
  } lease{*this, take_reader()};
  const auto deadline = steady_clock::now() + options_.reconnect_timeout;
  for (int64_t failures = 1;; ++failures) {
    try {
      if (!lease.reader) lease.reader = connect(connection_options(Access::read_only));
      const Scope scope(*lease.reader);
      Transaction transaction(*lease.reader);
      return work(transaction);
    } catch (const ConnectionLost&) {
      lease.reader.reset();
      if (failures > 1 && steady_clock::now() >= deadline) throw;
    }
    std::this_thread::sleep_for(kRetryPause);
  }
}

// ---- the writer's thread

void Database::run_writer() {
  Group group;
  while (take_group(group)) commit_group(group);
}

// Takes all that waits; false at the end.
bool Database::take_group(Group& group) {
  group.clear();
  std::unique_lock lock(mutex_);
  queue_changed_.wait(lock, [&] { return closing_ || !queue_.empty(); });
  while (!queue_.empty() && std::ssize(group) < limits::kStoreGroupWrites) {
    group.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  return !group.empty();
}

// Every group is answered here, one way or the other. A lost server is looked for once at least, and then until the time is over;
// while it has been away for longer than that already, each group looks once.
void Database::commit_group(Group& group) {
  ++group_number_;
  bool in_doubt = false;  // a COMMIT was sent and no answer came
  const auto begun = steady_clock::now();
  const auto is_over = [&](steady_clock::time_point since) {
    return steady_clock::now() - since >= options_.reconnect_timeout;
  };
  for (int64_t failures = 1;; ++failures) {
    std::exception_ptr error;
    try {
      if (!writer_) connect_writer();
      try_group(group, in_doubt);
      return answer(group, nullptr);
    } catch (const ConnectionLost&) {
      error = std::current_exception();
      writer_.reset();
    } catch (const Error&) {
      error = std::current_exception();
      if (!in_doubt) return group.size() == 1 ? answer(group, error) : commit_each(group);
    }
    if ((failures > 1 && is_over(begun)) || (lost_since_ && is_over(*lost_since_)))
      return give_up(group, error, in_doubt);
    if (!lost_since_) lost_since_ = steady_clock::now();
    std::this_thread::sleep_for(kRetryPause);
  }
}

void Database::connect_writer() {
  writer_ = connect(connection_options(Access::read_write));
  lost_since_.reset();
  ++reconnects_;
  spdlog::info("database connected again url={}", shown_url(options_.url));
}

// Runs the group in one transaction. `in_doubt`, on the way in: the group may have been committed by an earlier try; on the way out
// with ConnectionLost: it may have been by this one.
void Database::try_group(Group& group, bool& in_doubt) {
  const Scope scope(*writer_);
  if (in_doubt && group_number_is_written()) {
    ++resolved_;
    return;
  }
  in_doubt = false;
  for (Write& write : group) run_one(write);
  if (std::all_of(group.begin(), group.end(), [](const Write& write) { return write.error != nullptr; }))
    return;
  if (writer_->commits_can_be_in_doubt()) write_group_number();
  fault_point("store_commit");
  in_doubt = writer_->commits_can_be_in_doubt();
  writer_->commit();
  in_doubt = false;
  ++commits_;
  fault_point("store_committed");
}

// A failure of the work itself is its own; one that ended the whole transaction is thrown on.
void Database::run_one(Write& write) {
  Transaction transaction(*writer_);
  write.error = nullptr;
  try {
    transaction.attempt([&] { write.work(transaction); });
  } catch (const ConnectionLost&) {
    throw;
  } catch (...) {
    if (!writer_->in_transaction()) throw;
    write.error = std::current_exception();
  }
  write.changed_log = !write.error && transaction.changed_log();
}

// What ended the group's transaction may be the doing of one of them: a row that is too large for the disk.
void Database::commit_each(Group& group) {
  for (Write& write : group) {
    Group alone;
    alone.push_back(std::move(write));
    commit_group(alone);
  }
}

void Database::give_up(Group& group, const std::exception_ptr& error, bool in_doubt) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& lost) {
    Error given(ErrorCode::unavailable, lost.message());
    given.with_reason(in_doubt ? "fate_unknown" : "not_committed");
    answer(group, std::make_exception_ptr(given));
  }
}

void Database::write_group_number() {
  Transaction(*writer_).execute(
      "INSERT INTO store_writers (id, group_number, at_ms) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
      "group_number = excluded.group_number, at_ms = excluded.at_ms",
      writer_id_, group_number_, SystemClock().unix_ms());
}

bool Database::group_number_is_written() {
  const std::vector<TableShape> tables = writer_->tables();
  const auto is_writers = [](const TableShape& table) { return table.name == "store_writers"; };
  if (std::none_of(tables.begin(), tables.end(), is_writers)) return false;  // it is made in the first commit
  const auto row =
      Transaction(*writer_).query_row("SELECT group_number FROM store_writers WHERE id = ?", writer_id_);
  return row && as_integer(row->at(0), "group_number") == group_number_;
}

void Database::answer(Group& group, const std::exception_ptr& error) {
  if (!error) tell_listeners(group);
  for (Write& write : group) {
    if (!error && !write.error) ++writes_;
    write.done(error ? error : write.error);
    write = {};  // what the work holds is let go as soon as it is answered
  }
}

void Database::tell_listeners(const Group& group) {
  if (std::none_of(group.begin(), group.end(), [](const Write& write) { return write.changed_log; })) return;
  const std::lock_guard lock(listeners_->mutex);
  for (const auto& [number, listener] : listeners_->all) listener();
}

}  // namespace neutrino::store
