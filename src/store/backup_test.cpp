// Backups taken while threads write, and what becomes of them: consistent, checked, restored into either engine, whole or not at all.
#include "store/backup.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "store/table.h"
#include "store/testing/simulated_disk.h"
#include "store/testing/test_database.h"

namespace neutrino::store {
namespace {

namespace fs = std::filesystem;
using testing::Engine;
using testing::error_of;
using ::testing::HasSubstr;
using testing::SimulatedDisk;

struct Account {
  std::string id;
  int64_t amount = 0;
  double share = 0;
  std::optional<std::string> note;
  int64_t etag = 0;
  static constexpr auto fields() {
    return std::tuple(field("id", &Account::id, {.key = true}), field("amount", &Account::amount),
                      field("share", &Account::share), field("note", &Account::note),
                      field("etag", &Account::etag));
  }
};

// The second migration makes a row of its own; the third came after the backup was taken.
constexpr Migration kMigrations[] = {
    {1, "accounts", R"(CREATE TABLE accounts (id TEXT NOT NULL PRIMARY KEY, amount BIGINT NOT NULL,
                                              share DOUBLE PRECISION NOT NULL, note TEXT, etag BIGINT NOT NULL))"},
    {2, "bank", "INSERT INTO accounts VALUES ('bank', 0, 0, NULL, 1)"},
    {3, "limits",
     "ALTER TABLE accounts ADD COLUMN credit BIGINT NOT NULL DEFAULT 7; UPDATE accounts SET credit = amount"},
};
const std::span<const Migration> kOld(kMigrations, 2);
const std::vector<Component> kNow{{"bank", kMigrations}}, kThen{{"bank", kOld}};
const Table<Account> kAccounts({.name = "accounts", .kind = "account"});
constexpr int64_t kAccountCount = 50, kTotal = kAccountCount * 1000;

void open_accounts(Database& database) {
  migrate(database, "bank", kOld);
  database.write([](Transaction& tx) {
    for (int64_t i = 0; i < kAccountCount; ++i) {
      Account account{
          .id = fmt::format("account-{}", i), .amount = 1000, .share = 0.1 * static_cast<double>(i)};
      if (i % 2 == 0) account.note = "\xC3\xA9t\xC3\xA9";
      kAccounts.insert(tx, account);
    }
  });
}

// Moves money between accounts: the sum stays the same at every moment.
void transfer(Database& database, Random& random) {
  database.write([&](Transaction& tx) {
    const int64_t amount = random.between(1, 10), first = random.below(kAccountCount);
    Account from = kAccounts.get(tx, fmt::format("account-{}", first));
    Account to = kAccounts.get(tx, fmt::format("account-{}", (first + 1) % kAccountCount));
    from.amount -= amount;
    to.amount += amount;
    kAccounts.update(tx, from);
    kAccounts.update(tx, to);
  });
}

int64_t total(Database& database) {
  return database.read([](Transaction& tx) {
    return as_integer(tx.query_row("SELECT CAST(SUM(amount) AS BIGINT) FROM accounts")->at(0), "total");
  });
}

std::string all_accounts(Database& database) {
  return database.read([](Transaction& tx) {
    std::string text;
    for (const Account& account : kAccounts.list(tx, {.limit = 1000}).rows)
      text += to_text(to_json(account)) + "\n";
    return text;
  });
}

class BackupTest : public testing::OnBothEngines {
 protected:
  fs::path path() const { return folder() / "backup"; }
  std::string other_url() {
    return databases_.new_url(GetParam() == Engine::sqlite ? Engine::postgres : Engine::sqlite);
  }

 private:
  testing::TestDatabases databases_;
};
NEUTRINO_ON_BOTH_ENGINES(BackupTest);

TEST_P(BackupTest, one_taken_under_load_restores_to_a_consistent_state) {
  Database database({.url = new_url()});
  open_accounts(database);
  std::atomic<bool> stopping = false;
  std::atomic<int64_t> transfers = 0;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      Random random(t);
      for (; !stopping; ++transfers) transfer(database, random);
    });
  for (int i = 0; i < 3; ++i) {
    const int64_t before = transfers;
    while (transfers < before + 20) std::this_thread::yield();
    back_up(database, folder() / fmt::format("backup-{}", i));
  }
  stopping = true;
  for (std::thread& thread : threads) thread.join();
  int64_t last_seq = 0;
  for (int i = 0; i < 3; ++i) {
    Database restored({.url = new_url()});
    const BackupSummary summary =
        restore(restored, folder() / fmt::format("backup-{}", i), kThen, IfNotEmpty::refuse);
    EXPECT_EQ(total(restored), kTotal);
    EXPECT_GT(summary.seq, last_seq);  // each is of a later moment
    EXPECT_EQ(restored.read([](Transaction& tx) {
      return as_integer(tx.query_row("SELECT MAX(etag) FROM accounts")->at(0), "etag");
    }),
              summary.seq);  // and of one: the last change that it has is that of a row that it has
    last_seq = summary.seq;
  }
}

TEST_P(BackupTest, the_other_engine_takes_it_as_it_is) {
  Database database({.url = new_url()});
  open_accounts(database);
  const BackupSummary summary = back_up(database, path());
  EXPECT_EQ(fs::status(path()).permissions() & fs::perms(0077), fs::perms::none);
  for (const auto& entry : fs::directory_iterator(folder()))
    EXPECT_THAT(entry.path().string(), ::testing::Not(HasSubstr("partial")));
  Database other({.url = other_url()});
  restore(other, path(), kThen, IfNotEmpty::refuse);
  EXPECT_EQ(all_accounts(other), all_accounts(database));
  const fs::path back = folder() / "back";
  const BackupSummary again = back_up(other, back);
  EXPECT_GT(again.seq, summary.seq);
  Database third({.url = new_url()});
  restore(third, back, kThen, IfNotEmpty::refuse);
  EXPECT_EQ(all_accounts(third), all_accounts(database));
}

TEST_P(BackupTest, migrations_that_came_later_are_applied_to_what_was_restored) {
  Database database({.url = new_url()});
  open_accounts(database);
  back_up(database, path());
  Database restored({.url = new_url()});
  restore(restored, path(), kNow, IfNotEmpty::refuse);
  migrate(restored, "bank", kMigrations);  // has nothing to do
  const auto row = restored.read([](Transaction& tx) {
    return tx.query_row("SELECT COUNT(*), MIN(credit), MAX(credit) FROM accounts");
  });
  EXPECT_EQ(*row, (Row{kAccountCount + 1, int64_t{0}, int64_t{1000}}));
}

TEST_P(BackupTest, a_target_that_is_not_empty_is_replaced_only_if_told) {
  Database database({.url = new_url()});
  open_accounts(database);
  back_up(database, path());
  Random random(1);
  transfer(database, random);
  const std::string changed = all_accounts(database);
  const Error error = error_of([&] { restore(database, path(), kThen, IfNotEmpty::refuse); });
  EXPECT_EQ(error.code(), ErrorCode::failed_precondition);
  EXPECT_EQ(error.reason(), "not_empty");
  EXPECT_EQ(all_accounts(database), changed);
  restore(database, path(), kThen, IfNotEmpty::replace);
  EXPECT_NE(all_accounts(database), changed);
  transfer(database, random);  // and it goes on
  EXPECT_EQ(total(database), kTotal);
}

TEST_P(BackupTest, watchers_list_again_after_a_restore) {
  Database database({.url = new_url()});
  open_accounts(database);
  back_up(database, path());
  Random random(1);
  transfer(database, random);
  const int64_t seen = database.read([](Transaction& tx) { return last_change(tx); });
  restore(database, path(), kThen, IfNotEmpty::replace);
  const auto watch = [&](int64_t since) {
    return database.read([&](Transaction& tx) { return read_changes(tx, {.since = since}); });
  };
  EXPECT_EQ(error_of([&] { watch(seen); }).reason(), "too_old");
  const int64_t now = database.read([](Transaction& tx) { return last_change(tx); });
  transfer(database, random);
  EXPECT_EQ(watch(now).changes.size(), 2);
}

TEST_P(BackupTest, the_components_must_be_known) {
  Database database({.url = new_url()});
  open_accounts(database);
  back_up(database, path());
  Database target({.url = new_url()});
  const std::vector<Component> older{{"bank", std::span<const Migration>(kMigrations, 1)}};
  EXPECT_THAT(error_of([&] { restore(target, path(), older, IfNotEmpty::refuse); }).message(),
              HasSubstr("use a newer neutrino"));
  EXPECT_THAT(error_of([&] { restore(target, path(), {}, IfNotEmpty::refuse); }).message(),
              HasSubstr("tables of 'bank'"));
  restore(target, path(), kThen, IfNotEmpty::refuse);  // the refusals left it as it was
}

TEST_P(BackupTest, an_existing_file_is_not_overwritten) {
  Database database({.url = new_url()});
  write_file_atomic(path(), "mine");
  EXPECT_EQ(error_of([&] { back_up(database, path()); }).code(), ErrorCode::already_exists);
  EXPECT_EQ(read_file(path(), 100), "mine");
}

TEST_P(BackupTest, a_restore_that_is_killed_leaves_the_old_or_the_new) {
  const std::string url = new_url();
  std::string old, backed_up;
  {
    Database database({.url = url});
    open_accounts(database);
    backed_up = all_accounts(database);
    back_up(database, path());
    Random random(1);
    for (int i = 0; i < 5; ++i) transfer(database, random);
    old = all_accounts(database);
  }
  std::vector<std::string> outcomes;
  for (int64_t kill_at : {1, 2, 3, 4, 99}) {  // a page of each table
    const pid_t child = fork();
    if (child == 0) {
      Database database({.url = url});
      int64_t pages = 0;
      restore(database, path(), kThen, IfNotEmpty::replace, [&](const std::string&, int64_t) {
        if (++pages == kill_at) raise(SIGKILL);
      });
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    Database database({.url = url});
    outcomes.push_back(all_accounts(database));
    EXPECT_EQ(outcomes.back(), WIFSIGNALED(status) ? old : backed_up) << kill_at;
  }
  EXPECT_EQ(outcomes.front(), old);
  EXPECT_EQ(outcomes.back(), backed_up);
}

TEST(Backup, damage_is_noticed_wherever_it_is) {
  const testing::TemporaryFolder folder;
  Database database({.url = (folder.path() / "cloud.db").string()});
  open_accounts(database);
  const fs::path good = folder.path() / "good", bad = folder.path() / "bad";
  back_up(database, good);
  EXPECT_EQ(check_backup(good).tables, 4);  // accounts, changes, idempotency keys, migrations
  const std::string content = read_file(good, 1 << 24);
  Random random(5);
  int64_t noticed = 0;
  const int64_t tries = testing::long_run() ? 200 : 25;
  for (int64_t i = 0; i < tries; ++i) {
    std::string damaged = content;
    char& byte = damaged[static_cast<size_t>(random.below(std::ssize(damaged)))];
    byte = static_cast<char>(byte ^ (1 << random.below(8)));
    if (i % 10 == 0) damaged.resize(static_cast<size_t>(random.below(std::ssize(damaged))));
    write_file_atomic(bad, damaged);
    Database target(
        {.url = (folder.path() / fmt::format("target-{}", i)).string(), .durability = Durability::none});
    try {
      restore(target, bad, kThen, IfNotEmpty::refuse);
      EXPECT_EQ(all_accounts(target), all_accounts(database));  // the damage was where nothing is written
    } catch (const Error&) {
      ++noticed;
    }
  }
  EXPECT_GT(noticed, tries / 10);  // most bytes of a small file are in nobody's use
}

TEST(Backup, what_is_no_backup_is_refused) {
  const testing::TemporaryFolder folder;
  const fs::path database_path = folder.path() / "cloud.db", text = folder.path() / "text";
  Database database({.url = database_path.string()});
  write_file_atomic(text, std::string(5000, 'x'));
  EXPECT_EQ(error_of([&] { check_backup(database_path); }).code(), ErrorCode::failed_precondition);
  EXPECT_EQ(error_of([&] { check_backup(text); }).code(), ErrorCode::data_loss);
  EXPECT_EQ(error_of([&] { check_backup(folder.path() / "nothing"); }).code(), ErrorCode::not_found);
}

TEST(Backup, a_power_cut_leaves_a_whole_backup_or_none) {
  const testing::TemporaryFolder source;
  Database database({.url = (source.path() / "cloud.db").string()});
  open_accounts(database);
  int64_t whole = 0, none = 0;
  for (int64_t cut = 1;; ++cut) {
    const testing::TemporaryFolder folder, after;
    bool done = false;
    {
      SimulatedDisk disk(folder.path(), static_cast<uint64_t>(cut), cut);
      back_up(database, folder.path() / "backup");
      done = !disk.is_cut();
      disk.write_image(after.path());
    }
    if (fs::exists(after.path() / "backup"))
      ++whole, check_backup(after.path() / "backup");
    else
      ++none;
    if (!done) continue;
    EXPECT_TRUE(fs::exists(after.path() / "backup"));
    break;
  }
  EXPECT_GT(none, 5);
  EXPECT_GT(whole, 0);
}

}  // namespace
}  // namespace neutrino::store
