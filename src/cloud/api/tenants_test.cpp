// Workspaces, members, keys and secrets through their handlers: who may what, and what cannot be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cloud/api_key.h"
#include "cloud/testing/api_tester.h"
#include "net/error_body.h"

namespace neutrino::cloud {
namespace {

using net::Method;
using testing::ApiTester;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

class TenantsTest : public ::testing::Test {
 protected:
  TenantsTest() {
    for (const char* id : {"w1", "w2"})
      api.add(api.tables.workspaces, Workspace{.id = id, .name = std::string("ws-") + id});
    const std::pair<const char*, Role> people[] = {
        {"root", Role::admin}, {"ada", Role::admin}, {"bob", Role::user}, {"eve", Role::viewer}};
    for (const auto& [name, role] : people)
      api.add(api.tables.members, Member{.id = name,
                                         .workspace = "w1",
                                         .email = std::string(name) + "@x.org",
                                         .role = role,
                                         .platform = std::string_view(name) == "root"});
    api.add(api.tables.members,
            Member{.id = "zoe", .workspace = "w2", .email = "zoe@x.org", .role = Role::admin});
  }

  static Caller as(const std::string& member, Role role, bool platform = false) {
    return {.workspace = "w1",
            .role = role,
            .platform = platform,
            .actor = "member:" + member,
            .member = member,
            .email = member + "@x.org"};
  }
  const Caller root = as("root", Role::admin, true), ada = as("ada", Role::admin),
               bob = as("bob", Role::user), eve = as("eve", Role::viewer);

  std::string post(const Caller& caller, const std::string& path, json::value body) {
    return api.result({caller, Method::post, "/api/v1/" + path, std::move(body)});
  }
  std::string patch(const Caller& caller, const std::string& path, json::value body) {
    return api.result({caller, Method::patch, "/api/v1/" + path, std::move(body)});
  }
  std::string erase(const Caller& caller, const std::string& path) {
    return api.result({caller, Method::delete_, "/api/v1/" + path});
  }
  json::object make(const Caller& caller, const std::string& path, json::value body) {
    return api.answer({caller, Method::post, "/api/v1/" + path, std::move(body)}).body.as_object();
  }
  std::vector<std::string> names(const Caller& caller, const std::string& path,
                                 std::string_view field = "name") {
    std::vector<std::string> all;
    const ApiAnswer page = api.answer({caller, Method::get, "/api/v1/" + path});
    for (const json::value& item : page.body.at("items").as_array())
      all.emplace_back(item.at(field).as_string());
    return all;
  }

  ApiTester api{tenant_api};
};

// ---- keys

TEST_F(TenantsTest, a_key_is_shown_once_and_kept_as_its_digest) {
  const json::object made = make(bob, "keys", json::object{{"name", "ci"}, {"api_role", "user"}});
  const std::string text(made.at("key").as_string());
  EXPECT_EQ(key_kind(text), KeyKind::api_key);
  EXPECT_EQ(made.at("member"), json::value("bob"));
  EXPECT_FALSE(made.contains("digest"));
  const KeyRow row = api.read([&](auto& tx) { return api.tables.keys.list(tx, {}).rows.at(0); });
  EXPECT_EQ(row.digest, key_digest(text));
  const ApiAnswer again = api.answer({bob, Method::get, "/api/v1/keys/ci"});
  EXPECT_FALSE(again.body.as_object().contains("key"));
  EXPECT_EQ(to_text(again.body).find(text), std::string::npos);
}

TEST_F(TenantsTest, nobody_makes_a_key_that_may_do_more_than_they) {
  const struct {
    Caller caller;
    json::object body;
    std::string result;
  } rows[] = {
      {eve, {}, "permission_denied role"},
      {bob, {}, "201"},
      {bob, {{"api_role", "viewer"}}, "201"},
      {bob, {{"api_role", "admin"}}, "permission_denied insufficient_role api_role"},
      {bob, {{"member", "ada"}}, "permission_denied insufficient_role member"},
      {bob, {{"member", "bob@x.org"}}, "201"},
      {bob, {{"api_role", "user"}, {"platform", true}}, "permission_denied insufficient_role platform"},
      {ada, {}, "201"},
      {ada, {{"member", "bob"}, {"api_role", "user"}}, "201"},
      {ada, {{"member", "bob"}, {"api_role", "admin"}}, "invalid_argument api_role"},
      {ada, {{"member", "zoe"}}, "invalid_argument member"},
      {ada, {{"member", "zoe@x.org"}}, "invalid_argument member"},
      {ada, {{"api_role", "admin"}, {"platform", true}}, "permission_denied insufficient_role platform"},
      {root, {{"api_role", "admin"}, {"platform", true}}, "201"},
  };
  int number = 0;
  for (auto row : rows) {
    row.body["name"] = fmt::format("k{}", ++number);
    EXPECT_EQ(post(row.caller, "keys", row.body), row.result) << number;
  }
}

TEST_F(TenantsTest, values_that_a_key_cannot_have_are_named) {
  const std::pair<json::object, std::string> rows[] = {
      {{{"name", ""}}, "name"},
      {{{"name", "Ümlaut"}}, "name"},
      {{{"api_role", "root"}}, "api_role"},
      {{{"platform", true}}, "platform"},
      {{{"models", {"chat", ""}}}, "models[1]"},
      {{{"limits", {{"requests_per_minute", -1}}}}, "limits.requests_per_minute"},
      {{{"limits", {{"addresses", {"10.0.0.0/8", "10.0.0.0/33"}}}}}, "limits.addresses[1]"},
      {{{"expires_ms", -1}}, "expires_ms"},
      {{{"expires_ms", api.now_ms}}, "expires_ms"},
      {{{"digest", "x"}}, "digest"},
      {{{"revoked_ms", 1}}, "revoked_ms"},
      {{{"inferense", true}}, "inferense"},
  };
  for (auto [body, param] : rows) {
    if (!body.contains("name")) body["name"] = "k";
    EXPECT_EQ(post(root, "keys", body), "invalid_argument " + param) << to_text(body);
  }
  EXPECT_EQ(post(bob, "keys", json::object{{"name", "k"}}), "201");
  EXPECT_EQ(post(ada, "keys", json::object{{"name", "k"}}), "already_exists name");
}

TEST_F(TenantsTest, a_key_passes_its_own_bounds_on) {
  KeyRow own{.id = "own",
             .workspace = "w1",
             .name = "own",
             .member = "bob",
             .digest = "d",
             .inference = false,
             .api_role = "user",
             .models = {"a", "b"},
             .expires_ms = api.now_ms + 1000};
  own.limits = {.requests_per_minute = 10, .addresses = {"10.0.0.0/8"}};
  api.add(api.tables.keys, own);
  Caller caller = bob;
  caller.key = "own";
  const json::object good{{"inference", false},
                          {"models", {"a"}},
                          {"expires_ms", own.expires_ms},
                          {"limits", {{"requests_per_minute", 10}, {"addresses", {"10.0.0.0/8"}}}}};
  const std::pair<json::object, std::string> rows[] = {
      {{}, "201"},
      {{{"inference", true}}, "inference"},
      {{{"models", json::array{}}}, "models"},
      {{{"models", {"a", "c"}}}, "models"},
      {{{"expires_ms", 0}}, "expires_ms"},
      {{{"expires_ms", own.expires_ms + 1}}, "expires_ms"},
      {{{"limits", {{"requests_per_minute", 11}, {"addresses", {"10.0.0.0/8"}}}}},
       "limits.requests_per_minute"},
      {{{"limits", {{"requests_per_minute", 0}, {"addresses", {"10.0.0.0/8"}}}}},
       "limits.requests_per_minute"},
      {{{"limits", {{"requests_per_minute", 9}, {"addresses", {"0.0.0.0/0"}}}}}, "limits.addresses"},
      {{{"limits", {{"requests_per_minute", 9}}}}, "limits.addresses"},
  };
  int number = 0;
  for (const auto& [change, result] : rows) {
    json::object body = good;
    for (const auto& member : change) body[member.key()] = member.value();
    body["name"] = fmt::format("k{}", ++number);
    const std::string expected = result == "201" ? result : "permission_denied insufficient_role " + result;
    EXPECT_EQ(post(caller, "keys", body), expected) << to_text(change);
  }
  EXPECT_EQ(patch(caller, "keys/own", json::object{{"expires_ms", 0}}),
            "permission_denied insufficient_role expires_ms");
  EXPECT_EQ(patch(bob, "keys/own", json::object{{"expires_ms", 0}}), "200");
}

TEST_F(TenantsTest, a_user_has_its_own_keys_and_an_admin_all) {
  make(ada, "keys", json::object{{"name", "shared"}});
  make(ada, "keys", json::object{{"name", "adas"}, {"member", "ada"}});
  make(bob, "keys", json::object{{"name", "bobs"}});
  Caller zoe = ada;
  zoe.workspace = "w2", zoe.member = "zoe";
  EXPECT_THAT(names(ada, "keys"), UnorderedElementsAre("shared", "adas", "bobs"));
  EXPECT_THAT(names(bob, "keys"), ElementsAre("bobs"));
  EXPECT_THAT(names(eve, "keys"), ElementsAre());
  EXPECT_THAT(names(zoe, "keys"), ElementsAre());
  Caller machine{.workspace = "w1", .role = Role::user, .key = "none"};  // a key of no member
  EXPECT_THAT(names(machine, "keys"), ElementsAre());
  EXPECT_EQ(post(machine, "keys", json::object{{"name", "more"}}),
            "permission_denied insufficient_role member");
  for (const std::string name : {"adas", "shared"}) {
    EXPECT_EQ(api.result({bob, Method::get, "/api/v1/keys/" + name}), "not_found");
    EXPECT_EQ(patch(bob, "keys/" + name, json::object{{"inference", false}}), "not_found");
    EXPECT_EQ(post(bob, "keys/" + name + "/revoke", nullptr), "not_found");
    EXPECT_EQ(erase(bob, "keys/" + name), "not_found");
    EXPECT_EQ(erase(zoe, "keys/" + name), "not_found");
  }
  EXPECT_EQ(erase(ada, "keys/bobs"), "204");
}

TEST_F(TenantsTest, a_revoked_key_stays_revoked) {
  make(bob, "keys", json::object{{"name", "ci"}});
  EXPECT_EQ(post(bob, "keys/ci/revoke", nullptr), "200");
  const auto revoked = [&] {
    return api.answer({bob, Method::get, "/api/v1/keys/ci"}).body.at("revoked_ms").as_int64();
  };
  const int64_t at = api.now_ms;
  EXPECT_EQ(revoked(), at);
  ++api.now_ms;
  EXPECT_EQ(post(bob, "keys/ci/revoke", nullptr), "200");
  EXPECT_EQ(patch(bob, "keys/ci", json::object{{"inference", false}}), "200");
  EXPECT_EQ(revoked(), at);
}

// ---- members

TEST_F(TenantsTest, members_are_the_admins_matter) {
  const json::object dan{{"email", "Dan@X.org"}, {"role", "user"}};
  EXPECT_EQ(post(bob, "members", dan), "permission_denied role");
  EXPECT_EQ(make(ada, "members", dan).at("email"), json::value("dan@x.org"));
  EXPECT_EQ(post(ada, "members", json::object{{"email", "dan@x.org"}}), "already_exists email");
  EXPECT_EQ(patch(ada, "members/dan@x.org", json::object{{"role", "viewer"}}), "200");
  EXPECT_EQ(patch(ada, "members/dan@x.org", json::object{{"email", "d@x.org"}}), "invalid_argument email");
  for (const char* email : {"", "dan", "@x.org", "dan@", "a@b@c", "d an@x.org", "dän@x.org", "<d@x.org>"})
    EXPECT_EQ(post(ada, "members", json::object{{"email", email}}), "invalid_argument email") << email;
  EXPECT_EQ(patch(ada, "members/bob", json::object{{"platform", true}}),
            "permission_denied insufficient_role platform");
  EXPECT_EQ(patch(ada, "members/root", json::object{{"platform", false}}),
            "permission_denied insufficient_role platform");
  EXPECT_EQ(erase(ada, "members/root"), "permission_denied insufficient_role platform");
  EXPECT_EQ(patch(root, "members/bob", json::object{{"platform", true}}), "200");
  EXPECT_EQ(patch(ada, "members/zoe", json::object{{"role", "viewer"}}), "not_found");
  EXPECT_THAT(names(eve, "members", "id"), ::testing::Not(::testing::Contains("zoe")));
}

TEST_F(TenantsTest, a_workspace_keeps_an_admin) {
  EXPECT_EQ(patch(root, "members/root", json::object{{"role", "user"}}), "200");
  EXPECT_EQ(patch(ada, "members/ada", json::object{{"role", "user"}}), "failed_precondition last_admin role");
  EXPECT_EQ(erase(ada, "members/ada"), "failed_precondition last_admin role");
  EXPECT_EQ(net::http_status(Error(ErrorCode::failed_precondition, "").with_reason("last_admin")), 409);
  EXPECT_EQ(patch(ada, "members/bob", json::object{{"role", "admin"}}), "200");
  EXPECT_EQ(erase(ada, "members/ada"), "204");
}

TEST_F(TenantsTest, with_a_member_its_keys_go) {
  make(bob, "keys", json::object{{"name", "bobs"}});
  make(ada, "keys", json::object{{"name", "shared"}});
  EXPECT_EQ(erase(ada, "members/bob@x.org"), "204");
  for (const KeyRow& key : api.read([&](auto& tx) { return api.tables.keys.list(tx, {}).rows; }))
    EXPECT_EQ(key.revoked_ms != 0, key.name == "bobs") << key.name;
}

// ---- workspaces

TEST_F(TenantsTest, workspaces_are_the_platforms_and_seen_by_their_members) {
  EXPECT_THAT(names(root, "workspaces"), UnorderedElementsAre("ws-w1", "ws-w2"));
  EXPECT_THAT(names(ada, "workspaces"), ElementsAre("ws-w1"));
  EXPECT_EQ(api.result({ada, Method::get, "/api/v1/workspaces/ws-w2"}), "not_found");
  EXPECT_EQ(post(ada, "workspaces", json::object{{"name", "new"}}), "permission_denied role");
  EXPECT_EQ(post(root, "workspaces", json::object{{"name", "New"}}), "invalid_argument name");
  const json::object made = make(root, "workspaces", json::object{{"name", "new"}, {"admin", "Ada@x.org"}});
  EXPECT_FALSE(made.contains("admin"));
  EXPECT_THAT(names(ada, "workspaces"), UnorderedElementsAre("ws-w1", "new"));
  EXPECT_EQ(post(root, "workspaces", json::object{{"name", "new"}}), "already_exists name");
  make(root, "workspaces", json::object{{"name", "mine"}});
  const std::vector<Member> roots =
      api.read([&](auto& tx) { return members_of(tx, api.tables, "root@x.org"); });
  ASSERT_EQ(roots.size(), 2u);
  EXPECT_EQ(roots[1].role, Role::admin);
  EXPECT_FALSE(roots[1].platform);
  Caller machine = root;
  machine.email = machine.member = "";
  EXPECT_EQ(post(machine, "workspaces", json::object{{"name", "new2"}}), "invalid_argument admin");
}

TEST_F(TenantsTest, a_workspace_is_removed_when_it_is_empty) {
  api.add(api.tables.endpoints, Endpoint{.id = "chat-1", .workspace = "w2", .name = "chat"});
  make(root, "secrets", json::object{{"name", "s"}, {"value", "v"}});
  EXPECT_EQ(erase(root, "workspaces/w2"), "failed_precondition in_use");
  EXPECT_EQ(erase(root, "workspaces/w1"), "204");
  api.read([&](auto& tx) {
    EXPECT_EQ(api.tables.secrets.count(tx), 0);
    EXPECT_EQ(api.tables.members.list(tx, {}).rows.at(0).id, "zoe");
  });
  api.database.write([&](store::Transaction& tx) {
    api.tables.endpoints.erase(tx, api.tables.endpoints.get(tx, "chat-1"));
  });
  EXPECT_EQ(erase(root, "workspaces/w2"), "failed_precondition in_use") << "the only one";
}

// ---- secrets

TEST_F(TenantsTest, a_secret_is_written_and_never_read) {
  const json::object made = make(bob, "secrets", json::object{{"name", "token"}, {"value", "hunter2"}});
  const auto opened = [&] {
    const Secret row = api.read([&](auto& tx) { return api.tables.secrets.list(tx, {}).rows.at(0); });
    return api.secrets.open(row.sealed, secret_context("w1", row.id));
  };
  EXPECT_EQ(opened(), "hunter2");
  for (const std::string path : {"secrets", "secrets/token", "secrets/token?fields=name,value"}) {
    const std::string shown = to_text(api.answer({eve, Method::get, "/api/v1/" + path}).body);
    EXPECT_EQ(shown.find("hunter2"), std::string::npos) << shown;
    EXPECT_EQ(shown.find("sealed"), std::string::npos) << shown;
  }
  const auto put = [&](json::object body) {
    return api.answer({bob, Method::put, "/api/v1/secrets/token", body}).body;
  };
  EXPECT_EQ(put({{"value", "hunter2"}}).at("etag"), made.at("etag")) << "the same value is no change";
  EXPECT_NE(put({{"value", "hunter3"}}).at("etag"), made.at("etag"));
  EXPECT_EQ(opened(), "hunter3");
  EXPECT_EQ(patch(bob, "secrets/token", json::object{{"value", "hunter4"}}), "200");
  EXPECT_EQ(opened(), "hunter4");
}

TEST_F(TenantsTest, secrets_that_cannot_be) {
  make(bob, "secrets", json::object{{"name", "a_b"}, {"value", "v"}});
  Caller zoe = ada;
  zoe.workspace = "w2";
  const std::pair<std::string, std::string> rows[] = {
      {post(eve, "secrets", json::object{{"name", "s"}, {"value", "v"}}), "permission_denied role"},
      {post(bob, "secrets", json::object{{"name", "s"}}), "invalid_argument value"},
      {post(bob, "secrets", json::object{{"name", "s"}, {"value", 1}}), "invalid_argument value"},
      {post(bob, "secrets", json::object{{"name", "s"}, {"value", std::string("a\0b", 3)}}),
       "invalid_argument value"},
      {post(bob, "secrets", json::object{{"name", "s"}, {"value", std::string(70'000, 'x')}}),
       "invalid_argument value"},
      {post(bob, "secrets", json::object{{"name", "s"}, {"sealed", "v"}}), "invalid_argument sealed"},
      {patch(bob, "secrets/a_b", json::object{{"value", nullptr}}), "invalid_argument value"},
      {post(zoe, "secrets", json::object{{"name", "a_b"}, {"value", "v"}}), "201"},
  };
  for (const auto& [result, expected] : rows) EXPECT_EQ(result, expected);
}

TEST_F(TenantsTest, a_secret_in_use_stays) {
  for (const char* name : {"a_b", "axb"}) make(bob, "secrets", json::object{{"name", name}, {"value", "v"}});
  Endpoint chat{.id = "chat-1", .workspace = "w1", .name = "chat"};
  chat.deployments.push_back({.model = "m", .environment = {{.name = "T", .secret = "axb"}}});
  api.add(api.tables.endpoints, chat);
  EXPECT_EQ(erase(bob, "secrets/axb"), "failed_precondition in_use");
  EXPECT_EQ(erase(bob, "secrets/a_b"), "204");
}

}  // namespace
}  // namespace neutrino::cloud
