// The first start, and the key that it leaves: good once, also for two at once and across a crash.
#include "cloud/bootstrap.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "base/file.h"
#include "cloud/api_key.h"
#include "cloud/sessions.h"
#include "store/testing/test_database.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kNow = 1'000'000;

class Bootstrapped {
 protected:
  explicit Bootstrapped(store::testing::Engine engine)
      : database_({.url = databases_.new_url(engine), .durability = store::Durability::none}) {
    migrate(database_, kCloudComponent, cloud_migrations());
  }

  std::filesystem::path file() const { return databases_.folder() / "first-admin.key"; }
  std::string key() const {
    const std::string text = read_file(file(), 1000);
    return text.substr(0, text.size() - 1);
  }
  // Its session's email; empty: refused.
  std::string sign_in(const std::string& key_text, int64_t now_ms = kNow) {
    try {
      return database_.write(
          [&](store::Transaction& tx) { return use_one_time_key(tx, tables_, key_text, now_ms).email; });
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unauthenticated) << error.what();
      return "";
    }
  }
  std::vector<Member> members() {
    return database_.read([&](store::Transaction& tx) { return tables_.members.list(tx, {}).rows; });
  }

  store::testing::TestDatabases databases_;
  store::Database database_;
  const Tables tables_;
};

class BootstrapTest : public ::testing::Test, protected Bootstrapped {
 protected:
  BootstrapTest() : Bootstrapped(store::testing::Engine::sqlite) {}
};

// What races is tried on both engines.
class BootstrapRaceTest : public ::testing::TestWithParam<store::testing::Engine>, protected Bootstrapped {
 protected:
  BootstrapRaceTest() : Bootstrapped(GetParam()) {}
};

TEST_F(BootstrapTest, makes_an_admin_and_what_to_work_with) {
  EXPECT_TRUE(bootstrap(database_, tables_, kNow, file()));
  ASSERT_EQ(members().size(), 1u);
  EXPECT_EQ(members()[0].email, kFirstAdmin);
  EXPECT_EQ(members()[0].role, Role::admin);
  EXPECT_TRUE(members()[0].platform);
  database_.read([&](store::Transaction& tx) {
    EXPECT_EQ(tables_.workspaces.list(tx, {}).rows.at(0).id, members()[0].workspace);
    EXPECT_EQ(tables_.shapes.count(tx), 3);
    EXPECT_EQ(tables_.node_groups.get(tx, "local").provider, "local");
    EXPECT_EQ(tables_.one_time_keys.find(tx, key_digest(key()))->email, kFirstAdmin);
  });
  struct stat status {};
  ASSERT_EQ(::stat(file().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  const std::string before = key();
  EXPECT_FALSE(bootstrap(database_, tables_, kNow, file()));
  EXPECT_EQ(key(), before);
}

TEST_F(BootstrapTest, its_key_is_good_once_and_for_a_week) {
  bootstrap(database_, tables_, kNow, file());
  EXPECT_EQ(sign_in(key(), kNow + limits::kOneTimeKeySeconds * 1000), "");
  EXPECT_EQ(sign_in(make_key(KeyKind::one_time).text), "");
  EXPECT_EQ(sign_in(make_key(KeyKind::api_key).text), "");
  EXPECT_EQ(sign_in(key()), kFirstAdmin);
  EXPECT_EQ(sign_in(key()), "");
}

TEST_P(BootstrapRaceTest, its_key_is_good_once_for_many_at_once) {
  bootstrap(database_, tables_, kNow, file());
  std::vector<std::string> emails(8);
  std::vector<std::thread> threads;
  for (std::string& email : emails) threads.emplace_back([&] { email = sign_in(key()); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(std::count(emails.begin(), emails.end(), kFirstAdmin), 1);
}

// What a crash before the commit leaves: the file of a key that nobody knows.
TEST_F(BootstrapTest, a_first_start_that_did_not_get_through_is_done_again) {
  write_file_atomic(file(), make_key(KeyKind::one_time).text + "\n", 0600);
  EXPECT_EQ(sign_in(key()), "");
  EXPECT_TRUE(bootstrap(database_, tables_, kNow, file()));
  EXPECT_EQ(sign_in(key()), kFirstAdmin);
}

TEST_P(BootstrapRaceTest, first_starts_at_once_make_one_workspace_and_a_good_key) {
  std::vector<std::thread> threads;
  std::atomic<int> first{0};
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] { first += bootstrap(database_, tables_, kNow, file()) ? 1 : 0; });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(first, 1);
  EXPECT_EQ(members().size(), 1u);
  EXPECT_EQ(sign_in(key()), kFirstAdmin);
}

TEST_F(BootstrapTest, who_is_locked_out_gets_a_new_key) {
  bootstrap(database_, tables_, kNow, file());
  const std::string first = key();
  database_.write([&](store::Transaction& tx) { tables_.members.erase(tx, members()[0]); });
  bootstrap_again(database_, tables_, kNow, file());
  bootstrap_again(database_, tables_, kNow, file());
  ASSERT_EQ(members().size(), 1u);
  EXPECT_TRUE(members()[0].platform);
  EXPECT_EQ(sign_in(first), "");
  EXPECT_EQ(sign_in(key()), kFirstAdmin);
}

NEUTRINO_ON_BOTH_ENGINES(BootstrapRaceTest);

}  // namespace
}  // namespace neutrino::cloud
