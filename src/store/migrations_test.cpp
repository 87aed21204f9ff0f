// Migrations: in order, once, resumed after a kill at any step, and refused where the database knows more than the binary.
#include "store/migrations.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/testing/simulated_disk.h"
#include "store/testing/test_database.h"

namespace neutrino::store {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::SimulatedDisk;
using testing::TemporaryFolder;

// An upgrade that moves data: names are cut in two, in a new table that takes the old one's place.
constexpr Migration kAll[] = {
    {1, "people", "CREATE TABLE people (id BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL)"},
    {2, "family names", R"(
        CREATE TABLE new_people (id BIGINT NOT NULL PRIMARY KEY, given TEXT NOT NULL, family TEXT NOT NULL);
        INSERT INTO new_people SELECT id, substr(name, 1, 3), substr(name, 5) FROM people;
        DROP TABLE people;
        ALTER TABLE new_people RENAME TO people)"},
    {3, "ages", "ALTER TABLE people ADD COLUMN age BIGINT; UPDATE people SET age = id * 10"},
};
const std::span<const Migration> kFirst(kAll, 1);

void make_first_version(const std::string& url) {
  Database database({.url = url});
  migrate(database, "test", kFirst);
  database.write([](Transaction& tx) {
    for (int64_t id = 1; id <= 20; ++id)
      tx.execute("INSERT INTO people VALUES (?, ?)", id, fmt::format("Ann Onym{}", id));
  });
}

void expect_last_version(const std::string& url) {
  Database database({.url = url});
  migrate(database, "test", kAll);
  const Rows rows = database.read([](Transaction& tx) {
    EXPECT_EQ(schema_version(tx, "test"), 3);
    EXPECT_FALSE(has_table(tx, "new_people"));
    return tx.query("SELECT id, given, family, age FROM people ORDER BY id");
  });
  ASSERT_EQ(rows.rows.size(), 20);
  for (int64_t id = 1; id <= 20; ++id)
    EXPECT_EQ(rows.rows[static_cast<size_t>(id - 1)],
              (Row{id, std::string("Ann"), fmt::format("Onym{}", id), id * 10}));
}

// Runs `work` in a child and returns whether it was killed, rather than done.
bool is_killed(const std::function<void()>& work) {
  const pid_t child = fork();
  if (child == 0) {
    work();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
  return WIFSIGNALED(status);
}

class MigrationsTest : public testing::OnBothEngines {
 protected:
  std::string message_of(const std::string& url, std::span<const Migration> migrations) {
    try {
      Database database({.url = url});
      migrate(database, "test", migrations);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::failed_precondition);
      return error.message();
    }
    return "";
  }
};
NEUTRINO_ON_BOTH_ENGINES(MigrationsTest);

TEST_P(MigrationsTest, a_kill_at_each_step_is_repaired_by_the_next_start) {
  int64_t kills = 0;
  for (int64_t kill_at = 1;; ++kill_at) {
    const std::string url = new_url();
    make_first_version(url);
    const bool killed = is_killed([&] {
      Database database({.url = url});
      int64_t steps = 0;
      migrate(database, "test", kAll, [&](const Migration&, MigrationStep) {
        if (++steps == kill_at) raise(SIGKILL);
      });
    });
    expect_last_version(url);
    if (!killed) break;
    ++kills;
  }
  EXPECT_EQ(kills, 6);  // two migrations of three steps
}

TEST(Migrations, a_kill_at_each_call_to_the_disk_is_repaired_by_the_next_start) {
  const TemporaryFolder first;
  make_first_version((first.path() / "cloud.db").string());
  int64_t kills = 0;
  for (int64_t kill_at = 1;; ++kill_at) {
    const TemporaryFolder folder;
    const std::string url = (folder.path() / "cloud.db").string();
    fs::copy(first.path() / "cloud.db", url);
    const bool killed = is_killed([&] {
      const SimulatedDisk disk(folder.path(), 1, kill_at, [] { raise(SIGKILL); });
      Database database({.url = url});
      migrate(database, "test", kAll);
    });
    expect_last_version(url);
    if (!killed) break;
    ++kills;
  }
  EXPECT_GT(kills, 15);
}

TEST_P(MigrationsTest, a_failing_migration_leaves_nothing_of_itself) {
  constexpr Migration kBroken[] = {
      kAll[0], {2, "broken", "CREATE TABLE half (id BIGINT PRIMARY KEY); INSERT INTO nothing VALUES (1)"}};
  const std::string url = new_url();
  Database database({.url = url});
  EXPECT_THROW(migrate(database, "test", kBroken), Error);
  database.read([](Transaction& tx) {
    EXPECT_EQ(schema_version(tx, "test"), 1);
    EXPECT_FALSE(has_table(tx, "half"));
  });
}

TEST_P(MigrationsTest, a_newer_database_is_refused_by_name) {
  const std::string url = new_url();
  make_first_version(url);
  expect_last_version(url);
  EXPECT_THAT(
      message_of(url, kFirst),
      HasSubstr(
          "has test migration 2 ('family names'), this neutrino knows them up to 1: use a newer neutrino"));
}

TEST_P(MigrationsTest, an_edited_migration_is_refused) {
  const std::string url = new_url();
  make_first_version(url);
  constexpr Migration kEdited[] = {{1, "people", "CREATE TABLE people (id BIGINT PRIMARY KEY)"}};
  EXPECT_THAT(message_of(url, kEdited), HasSubstr("has another text"));
}

TEST_P(MigrationsTest, several_processes_may_start_at_once) {
  const std::string url = new_url();  // and there is nothing yet
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      try {
        Database database({.url = url});
        migrate(database, "test", kAll);
        _exit(0);
      } catch (const Error& error) {
        fmt::print(stderr, "{}\n", error.message());
        _exit(1);
      }
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  Database database({.url = url});
  EXPECT_EQ(database.read([](Transaction& tx) { return schema_version(tx, "test"); }), 3);
}

}  // namespace
}  // namespace neutrino::store
