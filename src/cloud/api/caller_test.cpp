// Whom a request comes from: every way in which a key or a session can be wrong, and what it may do when it is right.
#include "cloud/api/caller.h"

#include <gtest/gtest.h>

#include "cloud/api_key.h"
#include "store/testing/test_database.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kNow = 1'000'000;

class CallerTest : public ::testing::Test {
 protected:
  CallerTest() {
    migrate(database_, kCloudComponent, cloud_migrations());
    database_.write([&](store::Transaction& tx) {
      for (const std::string id : {"w1", "w2"}) {
        Workspace workspace{.id = id, .name = "name-of-" + id};
        tables_.workspaces.insert(tx, workspace);
      }
      add_member(tx, "ada-1", "w1", Role::user, 10);
      add_member(tx, "ada-2", "w2", Role::admin, 20);
      add_member(tx, "bob-1", "w1", Role::viewer, 30);
      Session session{.digest = session_.digest, .email = "ada@x.org", .how = "test", .expires_ms = kNow + 1};
      tables_.sessions.insert(tx, session);
    });
  }

  void add_member(store::Transaction& tx, const std::string& id, const std::string& workspace, Role role,
                  int64_t created_ms) {
    Member member{.id = id,
                  .workspace = workspace,
                  .email = id.substr(0, 3) + "@x.org",
                  .role = role,
                  .created_ms = created_ms};
    tables_.members.insert(tx, member);
  }

  // A key of w1 that may do everything, changed by `change`; returns its text.
  std::string add_key(const std::function<void(KeyRow&)>& change) {
    const NewKey made = make_key(KeyKind::api_key);
    KeyRow row{.id = made.prefix,
               .workspace = "w1",
               .name = made.prefix,
               .digest = made.digest,
               .api_role = "admin"};
    change(row);
    database_.write([&](store::Transaction& tx) { tables_.keys.insert(tx, row); });
    return made.text;
  }

  Caller find(std::vector<net::Header> headers, std::string_view peer = "10.1.2.3") {
    const net::Request request{.headers = std::move(headers)};
    return database_.read(
        [&](store::Transaction& tx) { return find_caller(request, tx, tables_, kNow, peer); });
  }
  std::string refusal(std::vector<net::Header> headers, std::string_view peer = "10.1.2.3") {
    try {
      find(std::move(headers), peer);
    } catch (const Error& error) {
      return fmt::format("{} {}", error_code_name(error.code()), error.reason());
    }
    return "";
  }

  store::testing::TestDatabases databases_;
  store::Database database_{{.url = databases_.new_url(store::testing::Engine::sqlite)}};
  const Tables tables_;
  const NewKey session_ = make_key(KeyKind::session);
};

net::Header bearer(const std::string& token) { return {"authorization", "Bearer " + token}; }

TEST_F(CallerTest, each_wrong_token_has_its_reason) {
  const std::string good = add_key([](KeyRow&) {});
  const NewKey old_session = make_key(KeyKind::session);
  database_.write([&](store::Transaction& tx) {
    Session session{.digest = old_session.digest, .email = "ada@x.org", .expires_ms = kNow};
    tables_.sessions.insert(tx, session);
  });
  const struct {
    std::vector<net::Header> headers;
    std::string refusal;
  } rows[] = {
      {{}, "unauthenticated missing_key"},
      {{{"authorization", "Basic YTpi"}}, "unauthenticated missing_key"},
      {{bearer("sk-foreign")}, "unauthenticated malformed_key"},
      {{bearer(good.substr(0, good.size() - 1) + "u")}, "unauthenticated malformed_key"},
      {{bearer(make_key(KeyKind::one_time).text)}, "unauthenticated malformed_key"},
      {{bearer(make_key(KeyKind::api_key).text)}, "unauthenticated unknown_key"},
      {{bearer(add_key([](KeyRow& key) { key.revoked_ms = 1; }))}, "unauthenticated revoked_key"},
      {{bearer(add_key([](KeyRow& key) { key.expires_ms = kNow; }))}, "unauthenticated expired_key"},
      {{bearer(add_key([](KeyRow& key) { key.member = "gone"; }))}, "unauthenticated revoked_key"},
      {{bearer(add_key([](KeyRow& key) { key.api_role = ""; }))}, "permission_denied insufficient_scope"},
      {{bearer(add_key([](KeyRow& key) { key.limits.addresses = {"10.2.0.0/16"}; }))},
       "permission_denied address_not_allowed"},
      {{bearer(make_key(KeyKind::session).text)}, "unauthenticated unknown_session"},
      {{bearer(old_session.text)}, "unauthenticated expired_session"},
      {{bearer(session_.text), {"x-workspace", "w3"}}, "not_found workspace_not_found"},
      {{bearer(good)}, ""},
      {{{"x-api-key", good}}, ""},
      {{{"authorization", "bearer " + good}}, ""},
      {{bearer(add_key([](KeyRow& key) { key.limits.addresses = {"10.1.0.0/16"}; }))}, ""},
      {{bearer(add_key([](KeyRow& key) { key.expires_ms = kNow + 1; }))}, ""},
  };
  for (const auto& row : rows) EXPECT_EQ(refusal(row.headers), row.refusal) << row.headers.size();
}

TEST_F(CallerTest, a_key_may_no_more_than_its_member_now) {
  const std::string text = add_key([](KeyRow& key) { key.member = "ada-1", key.platform = true; });
  EXPECT_EQ(find({bearer(text)}).role, Role::user);
  EXPECT_FALSE(find({bearer(text)}).platform);
  database_.write([&](store::Transaction& tx) {
    Member ada = tables_.members.get(tx, "ada-1");
    ada.role = Role::admin, ada.platform = true;
    tables_.members.update(tx, ada);
  });
  const Caller caller = find({bearer(text)});
  EXPECT_EQ(caller.role, Role::admin);
  EXPECT_TRUE(caller.platform);
  EXPECT_EQ(caller.workspace, "w1");
  EXPECT_EQ(caller.member, "ada-1");
  EXPECT_TRUE(caller.actor.starts_with("key:nk-"));
  const std::string low = add_key([](KeyRow& key) { key.member = "ada-1", key.api_role = "viewer"; });
  EXPECT_EQ(find({bearer(low)}).role, Role::viewer);
  EXPECT_FALSE(find({bearer(low)}).platform);
}

TEST_F(CallerTest, a_session_chooses_among_its_workspaces) {
  const std::pair<std::string, std::string> rows[] = {
      {"", "w1"}, {"w1", "w1"}, {"w2", "w2"}, {"name-of-w2", "w2"}};
  for (const auto& [wanted, workspace] : rows) {
    const Caller caller = find({bearer(session_.text), {"x-workspace", wanted}});
    EXPECT_EQ(caller.workspace, workspace);
    EXPECT_EQ(caller.role, workspace == "w1" ? Role::user : Role::admin);
    EXPECT_EQ(caller.actor, "member:ada@x.org");
  }
}

TEST_F(CallerTest, who_is_a_member_nowhere_may_nothing) {
  const NewKey stranger = make_key(KeyKind::session);
  database_.write([&](store::Transaction& tx) {
    Session session{.digest = stranger.digest, .email = "eve@x.org", .expires_ms = kNow + 1};
    tables_.sessions.insert(tx, session);
  });
  const Caller caller = find({bearer(stranger.text)});
  EXPECT_EQ(caller.workspace, "");
  EXPECT_TRUE(allows(caller, Needs::nothing));
  EXPECT_FALSE(allows(caller, Needs::viewer));
}

TEST(Rights, follow_the_role_and_the_platform_flag) {
  const Needs all[] = {Needs::nothing, Needs::viewer, Needs::user, Needs::admin, Needs::platform};
  const std::pair<Caller, std::string_view> rows[] = {
      {{.workspace = "w", .role = Role::viewer}, "11000"},
      {{.workspace = "w", .role = Role::user}, "11100"},
      {{.workspace = "w", .role = Role::admin}, "11110"},
      {{.workspace = "w", .role = Role::viewer, .platform = true}, "11001"},
      {{.workspace = "", .role = Role::admin, .platform = true}, "10000"},
  };
  for (const auto& [caller, allowed] : rows)
    for (size_t i = 0; i < std::size(all); ++i) EXPECT_EQ(allows(caller, all[i]), allowed[i] == '1') << i;
}

}  // namespace
}  // namespace neutrino::cloud
