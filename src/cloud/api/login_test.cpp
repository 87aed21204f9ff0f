// Signing in and out through the handlers: one-time keys, who am I, and an OpenID provider's way through the browser.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cloud/api_key.h"
#include "cloud/oidc.h"
#include "cloud/sessions.h"
#include "cloud/testing/api_tester.h"
#include "cloud/testing/openid_provider.h"

namespace neutrino::cloud {
namespace {

using net::Method;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class LoginTest : public ::testing::Test {
 protected:
  LoginTest() {
    api.now_ms = clock.unix_ms();
    for (const char* id : {"w1", "w2"}) {
      api.add(api.tables.workspaces, Workspace{.id = id, .name = std::string("ws-") + id});
      api.add(api.tables.members, Member{.id = std::string("ada-") + id,
                                         .workspace = id,
                                         .email = "ada@x.org",
                                         .role = Role::user,
                                         .created_ms = id[1]});
    }
  }
  std::string one_time_key(const std::string& email) {
    return api.database.write([&](store::Transaction& tx) {
      return make_one_time_key(tx, api.tables, email, "test", api.now_ms + 1000);
    });
  }
  json::value sign_in(const std::string& key) {
    return api.answer({{}, Method::post, "/api/v1/login/one-time-key", json::object{{"key", key}}}).body;
  }
  testing::ApiTester::Sent with_token(Method method, const std::string& path, const std::string& token,
                                      const std::string& workspace = "") {
    return {{}, method, path, nullptr, {{"authorization", "Bearer " + token}, {"x-workspace", workspace}}};
  }

  SystemClock clock;
  testing::ApiTester api{login_api};
};

TEST_F(LoginTest, a_one_time_key_begins_a_session_once) {
  const std::string key = one_time_key("ada@x.org");
  const json::value session = sign_in(key);
  EXPECT_EQ(session.at("email"), json::value("ada@x.org"));
  EXPECT_EQ(session.at("expires_ms").as_int64(), api.now_ms + 12 * 3600 * 1000);
  const std::string token(session.at("token").as_string());
  EXPECT_EQ(key_kind(token), KeyKind::session);
  const auto post = [&](json::value body) {
    return api.result({{}, Method::post, "/api/v1/login/one-time-key", std::move(body)});
  };
  EXPECT_EQ(post(json::object{{"key", key}}), "unauthenticated unknown_key");
  EXPECT_EQ(post(json::object{{"key", "x"}}), "unauthenticated malformed_key");
  EXPECT_EQ(post(json::object{{"key", 1}}), "invalid_argument key");
  EXPECT_EQ(post(json::object{{"password", "x"}}), "invalid_argument password");
  EXPECT_EQ(api.result(with_token(Method::get, "/api/v1/me", token)), "200");
  api.now_ms += 12 * 3600 * 1000;
  EXPECT_EQ(api.result(with_token(Method::get, "/api/v1/me", token)), "unauthenticated expired_session");
}

TEST_F(LoginTest, me_says_who_and_where) {
  const std::string token(sign_in(one_time_key("ada@x.org")).at("token").as_string());
  const json::value me = api.answer(with_token(Method::get, "/api/v1/me", token, "ws-w2")).body;
  EXPECT_EQ(to_text(me),
            R"({"actor":"member:ada@x.org","email":"ada@x.org","workspace":{"id":"w2","name":"ws-w2"},)"
            R"("role":"user","platform":false,"member":"ada-w2","key":"","workspaces":)"
            R"([{"id":"w1","name":"ws-w1","role":"user"},{"id":"w2","name":"ws-w2","role":"user"}]})");
  EXPECT_EQ(api.result({{}, Method::get, "/api/v1/me"}), "unauthenticated missing_key");
}

TEST_F(LoginTest, a_session_ends_where_it_is_signed_out) {
  const std::string token(sign_in(one_time_key("ada@x.org")).at("token").as_string());
  const std::string other(sign_in(one_time_key("ada@x.org")).at("token").as_string());
  EXPECT_EQ(api.result(with_token(Method::post, "/api/v1/logout", token)), "204");
  EXPECT_EQ(api.result(with_token(Method::get, "/api/v1/me", token)), "unauthenticated unknown_session");
  EXPECT_EQ(api.result(with_token(Method::post, "/api/v1/logout", token)), "unauthenticated unknown_session");
  EXPECT_EQ(api.result(with_token(Method::get, "/api/v1/me", other)), "200");
}

TEST_F(LoginTest, without_a_provider_there_is_no_such_sign_in) {
  EXPECT_EQ(api.result({{}, Method::get, "/api/v1/login/oidc"}), "not_found oidc_not_set_up");
  EXPECT_EQ(api.result({{}, Method::get, "/api/v1/login/oidc/callback?code=x"}), "not_found oidc_not_set_up");
}

// ---- the browser's way

class OidcLoginTest : public LoginTest {
 protected:
  OidcLoginTest() { use({}); }
  void use(OidcOptions options) {
    options.issuer = site.issuer(), options.client_id = "neutrino";
    options.public_url = "https://cloud.example.org";
    provider = std::make_unique<OidcProvider>(options, clock);
    api.services.oidc = provider.get();
  }

  struct Browser {
    std::string cookie, state, nonce;
  };
  static std::string header(const ApiAnswer& answer, std::string_view name) {
    for (const net::Header& one : answer.headers)
      if (one.name == name) return one.value;
    return "";
  }
  static std::string between(const std::string& text, const std::string& from, const std::string& to) {
    const size_t at = text.find(from) + from.size();
    return text.substr(at, text.find(to, at) - at);
  }
  Browser leave(const std::string& query = "") {
    const ApiAnswer answer = api.answer({{}, Method::get, "/api/v1/login/oidc" + query});
    EXPECT_EQ(answer.status, 302);
    const std::string location = header(answer, "Location"), cookie = header(answer, "Set-Cookie");
    EXPECT_THAT(cookie, HasSubstr("; Path=/api/v1/login/oidc; Max-Age=600; HttpOnly; SameSite=Lax; Secure"));
    return {cookie.substr(0, cookie.find(';')), between(location, "&state=", "&"),
            between(location, "&nonce=", "&")};
  }
  void vouch_for(const std::string& email, const std::string& nonce) {
    const int64_t now = clock.unix_ms() / 1000;
    site.issue({{"iss", site.issuer()},
                {"aud", "neutrino"},
                {"exp", now + 60},
                {"iat", now},
                {"nonce", nonce},
                {"sub", email},
                {"email", email},
                {"email_verified", true}});
  }
  testing::ApiTester::Sent back(const std::string& cookie, const std::string& query) {
    return {{}, Method::get, "/api/v1/login/oidc/callback?" + query, nullptr, {{"cookie", cookie}}};
  }

  testing::OpenidProvider site;
  std::unique_ptr<OidcProvider> provider;
};

TEST_F(OidcLoginTest, a_browser_comes_back_with_a_session) {
  const Browser browser = leave();
  vouch_for("Ada@X.org", browser.nonce);
  const ApiAnswer answer =
      api.answer(back("a=b; " + browser.cookie + "; c=d", "code=c1&state=" + browser.state));
  EXPECT_EQ(answer.body.at("email"), json::value("ada@x.org"));
  EXPECT_THAT(header(answer, "Set-Cookie"), HasSubstr("Max-Age=0"));
  const std::string token(answer.body.at("token").as_string());
  EXPECT_EQ(api.result(with_token(Method::get, "/api/v1/me", token)), "200");
  api.read([&](auto& tx) {
    EXPECT_EQ(api.tables.audit.list(tx, {}).rows.at(0).actor, "member:ada@x.org");
    EXPECT_EQ(api.tables.sessions.list(tx, {}).rows.at(0).how, site.issuer());
  });
}

TEST_F(OidcLoginTest, an_answer_that_is_not_to_this_browser_is_refused) {
  const Browser browser = leave(), other = leave();
  vouch_for("ada@x.org", browser.nonce);
  const std::pair<testing::ApiTester::Sent, std::string> rows[] = {
      {back("", "code=c1&state=" + browser.state), "unauthenticated sign_in_lost"},
      {back("neutrino_sign_in=x", "code=c1&state=" + browser.state), "unauthenticated sign_in_lost"},
      {back(other.cookie, "code=c1&state=" + browser.state), "unauthenticated sign_in_lost"},
      {back(browser.cookie, "code=c1&state="), "unauthenticated sign_in_lost"},
      {back(browser.cookie, "code=c1"), "unauthenticated sign_in_lost"},
      {back(browser.cookie, "state=" + browser.state), "unauthenticated sign_in_lost"},
      {back(browser.cookie, "code=c1&iss=https%3A%2F%2Fevil.example.org&state=" + browser.state),
       "unauthenticated sign_in_lost"},
      {back(browser.cookie, "error=access_denied&state=" + browser.state),
       "permission_denied sign_in_refused"},
      {back(other.cookie, "code=c1&state=" + other.state), "unauthenticated bad_id_token"},
      {back(browser.cookie, "code=c1&state=" + browser.state), "200"},
  };
  for (const auto& [sent, result] : rows) EXPECT_EQ(api.result(sent), result) << sent.path;
  api.now_ms += limits::kOidcFlowSeconds * 1000;
  EXPECT_EQ(api.result(back(browser.cookie, "code=c1&state=" + browser.state)),
            "unauthenticated sign_in_lost");
}

TEST_F(OidcLoginTest, a_terminal_gets_a_code_and_no_token) {
  const Browser browser = leave("?port=4711&state=mine");
  vouch_for("ada@x.org", browser.nonce);
  const ApiAnswer answer = api.answer(back(browser.cookie, "code=c1&state=" + browser.state));
  EXPECT_EQ(answer.status, 302);
  const std::string location = header(answer, "Location");
  EXPECT_THAT(location, StartsWith("http://127.0.0.1:4711/?code=no-"));
  EXPECT_THAT(location, HasSubstr("&state=mine"));
  const std::string code = between(location, "code=", "&");
  EXPECT_EQ(sign_in(code).at("email"), json::value("ada@x.org"));
  EXPECT_EQ(api.result({{}, Method::post, "/api/v1/login/one-time-key", json::object{{"key", code}}}),
            "unauthenticated unknown_key");
  for (const std::string query : {"?port=80", "?port=65536", "?port=x", "?port=", "?state=a%0Ab", "?next=/"})
    EXPECT_THAT(api.result({{}, Method::get, "/api/v1/login/oidc" + query}), StartsWith("invalid_argument"))
        << query;
}

TEST_F(OidcLoginTest, nobody_becomes_a_member_by_signing_in_unless_it_was_said) {
  const auto try_eve = [&] {
    const Browser browser = leave();
    vouch_for("eve@x.org", browser.nonce);
    return api.result(back(browser.cookie, "code=c1&state=" + browser.state));
  };
  EXPECT_EQ(try_eve(), "permission_denied no_membership");
  use({.auto_join_workspace = "elsewhere"});
  EXPECT_EQ(try_eve(), "permission_denied no_membership");
  EXPECT_EQ(api.read([&](auto& tx) { return api.tables.sessions.count(tx); }), 0);
  use({.auto_join_workspace = "ws-w2"});
  EXPECT_EQ(try_eve(), "200");
  EXPECT_EQ(try_eve(), "200");
  const std::vector<Member> eves =
      api.read([&](auto& tx) { return members_of(tx, api.tables, "eve@x.org"); });
  ASSERT_EQ(eves.size(), 1u);
  EXPECT_EQ(eves[0].workspace, "w2");
  EXPECT_EQ(eves[0].role, Role::viewer);
}

}  // namespace
}  // namespace neutrino::cloud
