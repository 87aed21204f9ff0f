// Power cuts and kill -9 with SQLite: whatever was acknowledged is there afterwards, whole, and the database opens.
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "store/migrations.h"
#include "store/testing/simulated_disk.h"
#include "store/testing/test_database.h"

namespace neutrino::store {
namespace {

namespace fs = std::filesystem;
using testing::SimulatedDisk;
using testing::TemporaryFolder;

// Two migrations, so that cuts and kills fall into and between them; a write is a row in each of the two tables.
constexpr Migration kMigrations[] = {
    {1, "left", "CREATE TABLE left_rows (id BIGINT NOT NULL PRIMARY KEY, filler TEXT NOT NULL)"},
    {2, "right",
     "CREATE TABLE right_rows (id BIGINT NOT NULL PRIMARY KEY); CREATE INDEX by_filler ON left_rows "
     "(filler)"},
};

void add_pair(Transaction& tx, int64_t id) {
  tx.execute("INSERT INTO left_rows (id, filler) VALUES (?, ?)", id,
             std::string(static_cast<size_t>(id % 3000), 'x'));
  tx.execute("INSERT INTO right_rows (id) VALUES (?)", id);
}

struct Found {
  std::set<int64_t> ids;
  bool whole = true;  // the file's structure, and both rows of each write
};

std::set<int64_t> ids_of(Transaction& tx, const std::string& table) {
  std::set<int64_t> ids;
  for (const Row& row : tx.query("SELECT id FROM " + table).rows) ids.insert(as_integer(row[0], "id"));
  return ids;
}

// Opens the database as the next start does, migrations included.
Found inspect(const std::string& url) {
  Database database({.url = url});
  migrate(database, "test", kMigrations);
  return database.read([](Transaction& tx) {
    Found found{.ids = ids_of(tx, "left_rows")};
    found.whole = as_text(tx.query_row("PRAGMA integrity_check")->at(0), "integrity") == "ok" &&
                  ids_of(tx, "right_rows") == found.ids;
    return found;
  });
}

int64_t count_missing(const std::set<int64_t>& acknowledged, const std::set<int64_t>& found) {
  return std::count_if(acknowledged.begin(), acknowledged.end(),
                       [&](int64_t id) { return !found.contains(id); });
}

// ---- power cuts

struct Losses {
  int64_t cuts = 0, acknowledged = 0;
  int64_t lost = 0;      // acknowledged writes that were not there
  int64_t unusable = 0;  // databases that did not open or were not whole
};

// Three threads write until the power is cut or they are done, which lets cuts fall into closing and its checkpoint too.
class Workload {
 public:
  explicit Workload(int64_t first_id) : next_id_(first_id) {}

  void run(const std::string& url, Durability durability, int64_t writes,
           const std::function<bool()>& is_over) {
    Database database({.url = url, .durability = durability});
    migrate(database, "test", kMigrations);
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t)
      threads.emplace_back([&] {
        for (int64_t i = 0; i < writes && !is_over(); ++i) write_one(database);
      });
    for (std::thread& thread : threads) thread.join();
  }
  void write_one(Database& database) {
    const int64_t id = next_id_++;
    database.write([&](Transaction& tx) { add_pair(tx, id); });
    const std::lock_guard lock(mutex_);
    acknowledged_.insert(id);
  }
  void freeze() {  // at the cut
    const std::lock_guard lock(mutex_);
    before_cut_ = acknowledged_;
  }
  const std::set<int64_t>& acknowledged() const { return *before_cut_; }
  int64_t next_id() const { return next_id_; }

 private:
  std::atomic<int64_t> next_id_;
  std::mutex mutex_;
  std::set<int64_t> acknowledged_;
  std::optional<std::set<int64_t>> before_cut_;
};

// Each cut leaves the database with which the next round goes on; every tenth round begins with none.
Losses cut_power(int64_t cuts, Durability durability, uint64_t seed) {
  Losses losses;
  Random random(seed);
  std::set<int64_t> expected;
  int64_t next_id = 1;
  auto folder = std::make_unique<TemporaryFolder>();
  for (; losses.cuts < cuts; ++losses.cuts) {
    if (losses.cuts % 10 == 0) folder = std::make_unique<TemporaryFolder>(), expected.clear();
    auto after = std::make_unique<TemporaryFolder>();
    Workload workload(next_id);
    {
      SimulatedDisk disk(folder->path(), random.next(), random.between(1, 120), [&] { workload.freeze(); });
      workload.run((folder->path() / "cloud.db").string(), durability, random.between(0, 20),
                   [&] { return disk.is_cut(); });
      disk.write_image(after->path());
    }
    next_id = workload.next_id();
    folder = std::move(after);
    expected.insert(workload.acknowledged().begin(), workload.acknowledged().end());
    losses.acknowledged += std::ssize(workload.acknowledged());
    try {
      const Found found = inspect((folder->path() / "cloud.db").string());
      losses.unusable += !found.whole;
      losses.lost += count_missing(expected, found.ids);
      expected = found.ids;
    } catch (const Error& error) {
      ++losses.unusable;
      folder = std::make_unique<TemporaryFolder>(), expected.clear();
    }
  }
  return losses;
}

TEST(PowerCut, no_acknowledged_write_is_lost) {
  const Losses losses = cut_power(testing::long_run() ? 200 : 80, Durability::full, 7);
  RecordProperty("acknowledged", static_cast<int>(losses.acknowledged));
  EXPECT_EQ(losses.lost, 0);
  EXPECT_EQ(losses.unusable, 0);
  EXPECT_GT(losses.acknowledged, 200);
}

TEST(PowerCut, negative_control_without_syncs_writes_are_lost) {
  const Losses losses = cut_power(30, Durability::none, 7);
  EXPECT_GT(losses.lost, 0);
}

// ---- kill -9

enum class Acknowledge {
  after_commit,
  before_commit
};  // before: the broken variant that the test must catch

// In a child: writes until it is killed, and tells of each acknowledged write through the pipe.
[[noreturn]] void write_until_killed(const std::string& url, int64_t first_id, int pipe,
                                     Acknowledge acknowledge, int64_t calls_until_kill) {
  const SimulatedDisk disk(fs::path(url).parent_path(), 1, calls_until_kill, [] { raise(SIGKILL); });
  Database database({.url = url});
  migrate(database, "test", kMigrations);
  const auto tell = [&](int64_t id) { check(::write(pipe, &id, sizeof id) == sizeof id); };
  std::atomic<int64_t> next_id = first_id;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      while (true) {
        const int64_t id = next_id++;
        database.write([&](Transaction& tx) {
          add_pair(tx, id);
          if (acknowledge == Acknowledge::before_commit) tell(id);
        });
        if (acknowledge == Acknowledge::after_commit) tell(id);
      }
    });
  for (std::thread& thread : threads) thread.join();
  _exit(1);
}

std::set<int64_t> read_ids(int pipe) {
  std::set<int64_t> ids;
  int64_t id = 0;
  while (read(pipe, &id, sizeof id) == sizeof id) ids.insert(id);
  return ids;
}

Losses kill_writers(int64_t kills, Acknowledge acknowledge, uint64_t seed) {
  Losses losses;
  Random random(seed);
  std::set<int64_t> expected;
  auto folder = std::make_unique<TemporaryFolder>();
  for (; losses.cuts < kills; ++losses.cuts) {
    if (losses.cuts % 20 == 0) folder = std::make_unique<TemporaryFolder>(), expected.clear();
    const std::string url = (folder->path() / "cloud.db").string();
    int ends[2];
    check(pipe(ends) == 0);
    const FileDescriptor from(ends[0]);
    FileDescriptor to(ends[1]);
    const int64_t calls = random.between(1, 150);
    const pid_t child = fork();
    if (child == 0) write_until_killed(url, losses.cuts * 100'000 + 1, to.get(), acknowledge, calls);
    to = FileDescriptor();
    const std::set<int64_t> acknowledged = read_ids(from.get());
    int status = 0;
    waitpid(child, &status, 0);
    check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the child ends by its kill");
    losses.acknowledged += std::ssize(acknowledged);
    expected.insert(acknowledged.begin(), acknowledged.end());
    const Found found = inspect(url);
    losses.unusable += !found.whole;
    losses.lost += count_missing(expected, found.ids);
    expected = found.ids;
  }
  return losses;
}

TEST(Kill, no_acknowledged_write_is_lost) {
  const Losses losses = kill_writers(testing::long_run() ? 1000 : 40, Acknowledge::after_commit, 11);
  RecordProperty("acknowledged", static_cast<int>(losses.acknowledged));
  EXPECT_EQ(losses.lost, 0);
  EXPECT_EQ(losses.unusable, 0);
  EXPECT_GT(losses.acknowledged, 200);
}

TEST(Kill, negative_control_acknowledging_before_the_commit_is_caught) {
  EXPECT_GT(kill_writers(20, Acknowledge::before_commit, 11).lost, 0);
}

}  // namespace
}  // namespace neutrino::store
