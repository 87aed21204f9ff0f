// The front door on both engines: transactions, groups, readers, errors, limits.
#include "store/database.h"

#include <gmock/gmock.h>
#include <sqlite3.h>

#include <cmath>

#include "store/migrations.h"
#include "store/sql_text.h"
#include "store/testing/test_database.h"

namespace neutrino::store {
namespace {

using ::testing::HasSubstr;

constexpr Migration kMigrations[] = {
    {1, "notes", "CREATE TABLE notes (id BIGINT NOT NULL PRIMARY KEY, text TEXT, weight DOUBLE PRECISION)"},
};

class DatabaseTest : public testing::OnBothEngines {
 protected:
  Database& open(DatabaseOptions options = {}) {
    options.url = new_url();
    database_.emplace(options);
    migrate(*database_, "test", kMigrations);
    return *database_;
  }

 private:
  std::optional<Database> database_;
};
NEUTRINO_ON_BOTH_ENGINES(DatabaseTest);

int64_t count_notes(Database& database) {
  return database.read(
      [](Transaction& tx) { return as_integer(tx.query_row("SELECT COUNT(*) FROM notes")->at(0), "count"); });
}

void add_note(Transaction& tx, int64_t id, std::string_view text = "x") {
  tx.execute("INSERT INTO notes (id, text) VALUES (?, ?)", id, text);
}

ErrorCode code_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::cancelled;  // nothing here throws it
}

TEST_P(DatabaseTest, values_come_back_as_they_were) {
  Database& database = open();
  const std::string text = "it's ?, \"quoted\", \xC3\xA9\xF0\x9F\x98\x80 and\nmore";
  database.write([&](Transaction& tx) {
    EXPECT_EQ(tx.execute("INSERT INTO notes VALUES (?, ?, ?)", INT64_MIN, text, 0.1), 1);
    tx.execute("INSERT INTO notes VALUES (?, ?, ?)", INT64_MAX, nullptr, -1e308);
    tx.execute("INSERT INTO notes VALUES (?, '', ?)", 0, std::optional<double>());
  });
  const Rows rows = database.read(
      [](Transaction& tx) { return tx.query("SELECT id, text, weight FROM notes ORDER BY id"); });
  EXPECT_EQ(rows.rows,
            (std::vector<Row>{
                {INT64_MIN, text, 0.1}, {int64_t{0}, std::string(), Null{}}, {INT64_MAX, Null{}, -1e308}}));
}

TEST_P(DatabaseTest, a_write_returns_what_its_work_returns) {
  Database& database = open();
  EXPECT_EQ(database.write([](Transaction& tx) { return add_note(tx, 1), std::string("done"); }), "done");
}

TEST_P(DatabaseTest, work_that_throws_leaves_nothing) {
  Database& database = open();
  EXPECT_THROW(database.write([](Transaction& tx) {
    add_note(tx, 1);
    throw std::runtime_error("a bug");
  }),
               std::runtime_error);
  EXPECT_EQ(count_notes(database), 0);
}

TEST_P(DatabaseTest, errors_have_the_same_codes) {
  Database& database = open();
  database.write([](Transaction& tx) { add_note(tx, 1); });
  const auto writing = [&](const std::string& sql, const Value& value) {
    return code_of([&] { database.write([&](Transaction& tx) { tx.query(sql, value); }); });
  };
  EXPECT_EQ(writing("INSERT INTO notes (id) VALUES (?)", int64_t{1}), ErrorCode::already_exists);
  EXPECT_EQ(writing("INSERT INTO notes (id) VALUES (?)", Null{}), ErrorCode::failed_precondition);
  EXPECT_EQ(writing("INSERT INTO nothing (id) VALUES (?)", int64_t{1}), ErrorCode::internal);
  EXPECT_EQ(writing("SELECT id FROM notes WHERE text = ?", std::string("a\0b", 3)),
            ErrorCode::invalid_argument);
  EXPECT_EQ(writing("SELECT id FROM notes WHERE text = ?", "\xC0\x80"), ErrorCode::invalid_argument);
  EXPECT_EQ(writing("SELECT id FROM notes WHERE weight = ?", std::nan("")), ErrorCode::invalid_argument);
}

TEST_P(DatabaseTest, after_a_failed_statement_a_transaction_takes_no_more) {
  Database& database = open();
  EXPECT_EQ(code_of([&] {
              database.write([](Transaction& tx) {
                add_note(tx, 1);
                EXPECT_THROW(add_note(tx, 1), Error);
                add_note(tx, 2);
              });
            }),
            ErrorCode::failed_precondition);
  EXPECT_EQ(code_of([&] {
              database.write([](Transaction& tx) {
                add_note(tx, 1);
                EXPECT_THROW(add_note(tx, 1), Error);  // swallowed: still nothing of it may stay
              });
            }),
            ErrorCode::failed_precondition);
  EXPECT_EQ(count_notes(database), 0);
}

TEST_P(DatabaseTest, an_attempt_may_fail_without_harm) {
  Database& database = open();
  database.write([](Transaction& tx) {
    add_note(tx, 1);
    EXPECT_THROW(tx.attempt([&] {
      add_note(tx, 2);
      add_note(tx, 1);
    }),
                 Error);
    tx.attempt([&] { add_note(tx, 3); });
  });
  const Rows rows =
      database.read([](Transaction& tx) { return tx.query("SELECT id FROM notes ORDER BY id"); });
  EXPECT_EQ(rows.rows, (std::vector<Row>{{int64_t{1}}, {int64_t{3}}}));
}

TEST_P(DatabaseTest, a_read_sees_one_moment_and_changes_nothing) {
  Database& database = open();
  database.read([&](Transaction& tx) {
    EXPECT_EQ(as_integer(tx.query_row("SELECT COUNT(*) FROM notes")->at(0), "count"), 0);
    database.write([](Transaction& other) { add_note(other, 1); });
    EXPECT_EQ(as_integer(tx.query_row("SELECT COUNT(*) FROM notes")->at(0), "count"), 0);
  });
  EXPECT_EQ(count_notes(database), 1);
  EXPECT_THROW(database.read([](Transaction& tx) { add_note(tx, 2); }), Error);
  EXPECT_EQ(count_notes(database), 1);
}

// Holds the writer's thread until the queue has what a test wants in one group.
class Gate {
 public:
  explicit Gate(Database& database) {
    const auto held = std::make_shared<std::promise<void>>();
    database.write_async(
        [held, opened = open_->get_future().share()](Transaction&) {
          held->set_value();
          opened.wait();
        },
        [](std::exception_ptr) {});
    held->get_future().wait();
  }
  void open() { open_->set_value(); }

 private:
  std::shared_ptr<std::promise<void>> open_ = std::make_shared<std::promise<void>>();
};

TEST_P(DatabaseTest, many_writes_share_a_commit_and_one_that_fails_harms_no_other) {
  Database& database = open();
  const int64_t commits = database.counts().commits;
  std::atomic<int> good = 0, bad = 0;
  std::promise<void> last;
  {
    Gate gate(database);
    for (int64_t i = 0; i < 100; ++i)
      database.write_async(
          [i](Transaction& tx) {
            add_note(tx, i);
            if (i % 10 == 3) add_note(tx, 0);  // is there
            if (i % 10 == 7) throw std::runtime_error("a bug");
          },
          [&](std::exception_ptr error) {
            (error ? bad : good)++;
            if (good + bad == 100) last.set_value();
          });
    gate.open();
    last.get_future().wait();
  }
  EXPECT_EQ(good, 80);
  EXPECT_EQ(bad, 20);
  EXPECT_EQ(count_notes(database), 80);
  EXPECT_LE(database.counts().commits - commits, 2);
}

TEST_P(DatabaseTest, a_full_queue_is_an_answer) {
  Database& database = open({.queued_writes_max = 4});
  Gate gate(database);
  for (int64_t i = 0; i < 4; ++i)
    database.write_async([i](Transaction& tx) { add_note(tx, i); }, [](std::exception_ptr) {});
  try {
    database.write([](Transaction& tx) { add_note(tx, 9); });
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::resource_exhausted);
    EXPECT_EQ(error.reason(), "store_overloaded");
  }
  gate.open();
}

TEST_P(DatabaseTest, closing_finishes_what_is_queued) {
  const std::string url = new_url();
  std::atomic<int> done = 0;
  {
    Database database({.url = url});
    migrate(database, "test", kMigrations);
    for (int64_t i = 0; i < 50; ++i)
      database.write_async([i](Transaction& tx) { add_note(tx, i); },
                           [&](std::exception_ptr error) { done += error ? 0 : 1; });
  }
  EXPECT_EQ(done, 50);
  Database again({.url = url});
  EXPECT_EQ(count_notes(again), 50);
}

TEST_P(DatabaseTest, writers_of_two_databases_exclude_each_other) {
  const std::string url = new_url();
  Database one({.url = url}), other({.url = url});
  migrate(one, "test", kMigrations);
  one.write([](Transaction& tx) { tx.execute("INSERT INTO notes (id, weight) VALUES (1, 0)"); });
  const auto increment = [](Database& database) {
    for (int i = 0; i < 100; ++i)
      database.write([](Transaction& tx) {
        const double weight =
            as_number(tx.query_row("SELECT weight FROM notes WHERE id = 1")->at(0), "weight");
        tx.execute("UPDATE notes SET weight = ? WHERE id = 1", weight + 1);
      });
  };
  std::thread thread([&] { increment(other); });
  increment(one);
  thread.join();
  const auto row = one.read([](Transaction& tx) { return tx.query_row("SELECT weight FROM notes"); });
  EXPECT_EQ(as_number(row->at(0), "weight"), 200);
}

TEST_P(DatabaseTest, many_threads_read_and_write) {
  Database& database = open();
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < 8; ++t)
    threads.emplace_back([&database, t] {
      for (int64_t i = 0; i < 50; ++i) {
        database.write([&](Transaction& tx) { add_note(tx, t * 1000 + i); });
        EXPECT_GE(count_notes(database), i + 1);  // a thread reads what it wrote
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(count_notes(database), 400);
  EXPECT_LT(database.counts().commits, 400);
}

TEST(Sqlite, a_database_of_another_program_is_refused_untouched) {
  const testing::TemporaryFolder folder;
  const std::filesystem::path text = folder.path() / "text.db", foreign = folder.path() / "foreign.db";
  write_file_atomic(text,
                    "this is no database, whatever its name may say, and it is long enough to see that");
  EXPECT_EQ(code_of([&] { Database database({.url = text.string()}); }), ErrorCode::data_loss);
  sqlite3* theirs = nullptr;
  ASSERT_EQ(sqlite3_open(foreign.c_str(), &theirs), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(theirs, "CREATE TABLE theirs (a)", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(theirs);
  const std::string before = read_file(foreign, 1 << 20);
  EXPECT_EQ(code_of([&] { Database database({.url = foreign.string()}); }), ErrorCode::failed_precondition);
  EXPECT_EQ(read_file(foreign, 1 << 20), before);
}

TEST(Sqlite, the_file_belongs_to_its_owner_alone) {
  const testing::TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "new" / "cloud.db";
  Database database({.url = path.string()});
  for (const auto& entry : std::filesystem::directory_iterator(path.parent_path()))
    EXPECT_EQ(entry.status().permissions() & std::filesystem::perms(0077), std::filesystem::perms::none)
        << entry.path();
}

TEST(Postgres, a_server_that_is_not_there_is_named_without_the_password) {
  try {
    Database database({.url = "postgres://me:hunter2@127.0.0.1:1/db?password=hunter3"});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unavailable);
    EXPECT_THAT(error.message(), HasSubstr("postgres://me@127.0.0.1:1/db"));
    EXPECT_THAT(error.message(), ::testing::Not(HasSubstr("hunter")));
  }
}

TEST(SqlText, placeholders_are_numbered_outside_of_quotes_and_comments) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"a = ? AND b = ?", "a = $1 AND b = $2"},
      {"a = 'what?' AND b = ?", "a = 'what?' AND b = $1"},
      {"a = 'it''s ?' AND \"b?\" = ?", "a = 'it''s ?' AND \"b?\" = $1"},
      {"a = ? -- why?\n AND b = ?", "a = $1 -- why?\n AND b = $2"},
      {"a /* ? */ = ?", "a /* ? */ = $1"},
      {"a = 'open ?", "a = 'open ?"},
  };
  for (const auto& [ours, theirs] : cases) EXPECT_EQ(number_placeholders(ours), theirs);
}

TEST(SqlText, texts_are_ordered_by_bytes) {
  EXPECT_EQ(order_texts_by_bytes("CREATE TABLE t (a TEXT NOT NULL DEFAULT 'TEXT', TEXTS BIGINT) -- TEXT"),
            "CREATE TABLE t (a TEXT COLLATE \"C\" NOT NULL DEFAULT 'TEXT', TEXTS BIGINT) -- TEXT");
}

TEST(Value, storable_text_is_utf8_without_nul) {
  const std::vector<std::pair<std::string, bool>> cases = {
      {"", true},
      {"plain", true},
      {"\xC3\xA9", true},
      {"\xF0\x9F\x98\x80", true},
      {"\xEF\xBF\xBD", true},
      {"\xC3", false},
      {"\xC0\x80", false},
      {"\xE0\x80\x80", false},
      {"\xED\xA0\x80", false},
      {"\xF4\x90\x80\x80", false},
      {"\xF5\x80\x80\x80", false},
      {"\x80", false},
      {std::string("a\0b", 3), false},
  };
  for (const auto& [text, good] : cases)
    EXPECT_EQ(is_storable_text(text), good) << ::testing::PrintToString(text);
}

}  // namespace
}  // namespace neutrino::store
