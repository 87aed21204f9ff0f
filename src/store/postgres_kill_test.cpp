// PostgreSQL whose processes are killed, and connections that are cut at the worst moment: what was acknowledged is there, nothing is
// there twice, and what was refused is not there.
#include <gmock/gmock.h>

#include <map>
#include <set>

#include "store/migrations.h"
#include "store/testing/cutting_proxy.h"
#include "store/testing/test_database.h"

namespace neutrino::store {
namespace {

using std::chrono::milliseconds;
using testing::CutAt;
using testing::CuttingProxy;
using testing::PostgresServer;

// No key, so that a write that was applied twice would be seen.
constexpr Migration kMigrations[] = {{1, "rows", "CREATE TABLE rows (id BIGINT NOT NULL)"}};

void add_row(Transaction& tx, int64_t id) { tx.execute("INSERT INTO rows (id) VALUES (?)", id); }

std::map<int64_t, int64_t> count_rows(Database& database) {
  return database.read([](Transaction& tx) {
    std::map<int64_t, int64_t> counts;
    for (const Row& row : tx.query("SELECT id FROM rows").rows) ++counts[as_integer(row[0], "id")];
    return counts;
  });
}

// Threads that write until they are stopped, and remember how each write ended.
class Writers {
 public:
  explicit Writers(Database& database) {
    for (int t = 0; t < 3; ++t)
      threads_.emplace_back([&] {
        while (!stopping_) write_one(database);
      });
  }
  ~Writers() { stop(); }
  void stop() {
    stopping_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  void wait_for_more(int64_t count) const {
    const int64_t wanted = acknowledged_count_ + count;
    while (acknowledged_count_ < wanted) std::this_thread::sleep_for(milliseconds(1));
  }
  const std::set<int64_t>& acknowledged() const { return acknowledged_; }
  const std::set<int64_t>& refused() const { return refused_; }

 private:
  void write_one(Database& database) {
    const int64_t id = ++next_id_;
    std::string outcome = "acknowledged";
    try {
      database.write([&](Transaction& tx) { add_row(tx, id); });
    } catch (const Error& error) {
      outcome = error.reason();
    }
    const std::lock_guard lock(mutex_);
    if (outcome == "acknowledged") acknowledged_.insert(id);
    if (outcome == "not_committed") refused_.insert(id);
    acknowledged_count_ = std::ssize(acknowledged_);
  }

  std::atomic<int64_t> next_id_ = 0, acknowledged_count_ = 0;
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;
  std::set<int64_t> acknowledged_, refused_;
  std::vector<std::thread> threads_;  // last: they use all of the above
};

struct Outcome {
  int64_t acknowledged = 0, lost = 0, doubled = 0, refused_but_there = 0;
  DatabaseCounts counts;
};

// `all_every`: each so many kills hit the whole server, the others one process that serves somebody.
Outcome kill_server(int64_t kills, int64_t all_every, Durability durability, uint64_t seed) {
  PostgresServer server;
  Random random(seed);
  const std::string url = server.url("killed");
  {
    Database careful({.url = url});  // the table itself is not to be lost
    migrate(careful, "test", kMigrations);
  }
  Database database({.url = url, .durability = durability, .reconnect_timeout = milliseconds(60'000)});
  Writers writers(database);
  for (int64_t i = 1; i <= kills; ++i) {
    writers.wait_for_more(random.between(1, 30));
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(3000)));
    if (i % all_every == 0) {
      server.kill_all();
      server.start();
    } else {
      server.kill_one(random);
    }
  }
  writers.wait_for_more(1);
  writers.stop();
  const std::map<int64_t, int64_t> found = count_rows(database);
  Outcome outcome{.acknowledged = std::ssize(writers.acknowledged()), .counts = database.counts()};
  for (const int64_t id : writers.acknowledged()) outcome.lost += !found.contains(id);
  for (const int64_t id : writers.refused()) outcome.refused_but_there += found.contains(id);
  for (const auto& [id, count] : found) outcome.doubled += count > 1;
  return outcome;
}

TEST(PostgresKill, no_acknowledged_write_is_lost_and_none_is_applied_twice) {
  const Outcome outcome = kill_server(testing::long_run() ? 1000 : 8, 4, Durability::full, 3);
  RecordProperty("acknowledged", static_cast<int>(outcome.acknowledged));
  RecordProperty("reconnects", static_cast<int>(outcome.counts.reconnects));
  RecordProperty("resolved", static_cast<int>(outcome.counts.resolved));
  EXPECT_EQ(outcome.lost, 0);
  EXPECT_EQ(outcome.doubled, 0);
  EXPECT_EQ(outcome.refused_but_there, 0);
  EXPECT_GT(outcome.counts.reconnects, 0);
}

TEST(PostgresKill, negative_control_without_waiting_for_the_disk_writes_are_lost) {
  int64_t lost = 0;
  for (uint64_t seed = 0; seed < 10 && lost == 0; ++seed)
    lost += kill_server(2, 1, Durability::none, seed).lost;
  EXPECT_GT(lost, 0);
}

// ---- a commit in doubt

class CutCommit : public ::testing::Test {
 protected:
  CutCommit() : proxy_(PostgresServer::shared().port()) {
    direct_url_ = databases_.new_url(testing::Engine::postgres);
    direct_.emplace(DatabaseOptions{.url = direct_url_});
    migrate(*direct_, "test", kMigrations);
    std::string url = direct_url_;
    const std::string port = fmt::format(":{}/", PostgresServer::shared().port());
    url.replace(url.find(port), port.size(), fmt::format(":{}/", proxy_.port()));
    database_.emplace(DatabaseOptions{.url = url, .reconnect_timeout = milliseconds(1000)});
  }
  std::map<int64_t, int64_t> found() { return count_rows(*direct_); }

  testing::TestDatabases databases_;
  CuttingProxy proxy_;
  std::string direct_url_;
  std::optional<Database> direct_, database_;
};

TEST_F(CutCommit, that_was_not_done_is_done_again) {
  proxy_.cut_next(CutAt::before_commit);
  database_->write([](Transaction& tx) { add_row(tx, 1); });
  EXPECT_EQ(proxy_.cuts(), 1);
  EXPECT_EQ(database_->counts().resolved, 0);
  EXPECT_EQ(found(), (std::map<int64_t, int64_t>{{1, 1}}));
}

TEST_F(CutCommit, that_was_done_is_found_and_not_done_again) {
  proxy_.cut_next(CutAt::after_commit);
  const int64_t result = database_->write([runs = 0](Transaction& tx) mutable {
    add_row(tx, 1);
    return int64_t{++runs};
  });
  EXPECT_EQ(proxy_.cuts(), 1);
  EXPECT_EQ(result, 1);
  EXPECT_EQ(database_->counts().resolved, 1);
  EXPECT_EQ(found(), (std::map<int64_t, int64_t>{{1, 1}}));
}

TEST_F(CutCommit, stays_in_doubt_if_the_server_does_not_come_back) {
  proxy_.cut_next(CutAt::after_commit_for_good);
  try {
    database_->write([](Transaction& tx) { add_row(tx, 1); });
    ADD_FAILURE() << "nobody can know that it was committed";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unavailable);
    EXPECT_EQ(error.reason(), "fate_unknown");
  }
  EXPECT_EQ(found().size(), 1);
  try {
    database_->write([](Transaction& tx) { add_row(tx, 2); });
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.reason(), "not_committed");
  }
  EXPECT_EQ(found().size(), 1);
}

// What the group's number is for: a client that begins again without asking applies the write twice.
TEST_F(CutCommit, negative_control_writing_again_without_asking_doubles) {
  proxy_.cut_next(CutAt::after_commit);
  const auto write_carelessly = [&] {
    const auto connection = connect({.url = database_->options().url});
    connection->begin();
    Transaction tx(*connection);
    add_row(tx, 1);
    connection->commit();
  };
  EXPECT_THROW(write_carelessly(), ConnectionLost);
  write_carelessly();
  EXPECT_EQ(found(), (std::map<int64_t, int64_t>{{1, 2}}));
}

TEST(PostgresSilence, a_server_that_does_not_answer_counts_as_lost) {
  PostgresServer server;
  Database database({.url = server.url("silent"),
                     .reconnect_timeout = milliseconds(500),
                     .statement_timeout = milliseconds(500)});
  migrate(database, "test", kMigrations);
  server.stop_answering();
  try {
    database.write([](Transaction& tx) { add_row(tx, 1); });
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.reason(), "not_committed");
  }
  server.answer_again();
  for (int64_t id = 2;; ++id) {  // the server still works through what it was sent meanwhile
    try {
      database.write([&](Transaction& tx) { add_row(tx, id); });
      break;
    } catch (const Error& error) {
      ASSERT_LT(id, 60) << error.message();
    }
  }
  EXPECT_FALSE(count_rows(database).contains(1));
}

}  // namespace
}  // namespace neutrino::store
