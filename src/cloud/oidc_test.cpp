// A sign-in at a provider that keeps its word, and at one that does not.
#include "cloud/oidc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/sha256.h"
#include "cloud/base64url.h"
#include "cloud/testing/openid_provider.h"

namespace neutrino::cloud {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class OidcTest : public ::testing::Test {
 protected:
  OidcOptions options() const {
    return {.issuer = site.issuer(),
            .client_id = "neutrino",
            .client_secret = "open/sesame",
            .public_url = "http://127.0.0.1:1/"};
  }
  json::object claims(const OidcFlow& of) const {
    const int64_t now = clock.unix_ms() / 1000;
    return {{"iss", site.issuer()}, {"aud", "neutrino"}, {"exp", now + 60},      {"iat", now},
            {"nonce", of.nonce},    {"sub", "u1"},       {"email", "Ada@x.org"}, {"email_verified", true}};
  }
  // The email that a sign-in gives, or its error's reason.
  std::string sign_in(OidcProvider& provider) {
    try {
      return provider.verified_email(flow, "the code");
    } catch (const Error& error) {
      return error.reason();
    }
  }

  testing::OpenidProvider site;
  SystemClock clock;
  const OidcFlow flow = OidcFlow::start();
};

TEST_F(OidcTest, the_browser_is_sent_with_what_binds_the_flow) {
  OidcProvider provider(options(), clock);
  const std::string url = provider.authorization_url(flow);
  const Sha256Digest digest = sha256(flow.verifier);
  const std::string challenge = to_base64url({reinterpret_cast<const char*>(digest.data()), digest.size()});
  for (const std::string& part :
       {site.issuer() + "/authorize?tenant=1&response_type=code", "&state=" + flow.state,
        "&nonce=" + flow.nonce, "&code_challenge=" + challenge, std::string("&code_challenge_method=S256"),
        std::string("&scope=openid%20email"),
        std::string("&redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fapi%2Fv1%2Flogin%2Foidc%2Fcallback")})
    EXPECT_THAT(url, HasSubstr(part));
  EXPECT_THAT(url, Not(HasSubstr(flow.verifier)));
  provider.authorization_url(flow);
  EXPECT_EQ(site.asked("/.well-known/openid-configuration"), 1);
}

TEST_F(OidcTest, a_code_becomes_a_verified_email) {
  site.issue(claims(flow));
  OidcProvider provider(options(), clock);
  EXPECT_EQ(sign_in(provider), "Ada@x.org");
  const std::string request = site.token_request();
  EXPECT_THAT(request, HasSubstr("Authorization: Basic bmV1dHJpbm86b3BlbiUyRnNlc2FtZQ=="));
  EXPECT_THAT(request, HasSubstr("code=the%20code"));
  EXPECT_THAT(request, HasSubstr("code_verifier=" + flow.verifier));
  EXPECT_EQ(site.asked("/userinfo"), 0);
}

TEST_F(OidcTest, the_email_may_be_at_the_userinfo_endpoint) {
  json::object without = claims(flow);
  without.erase("email");
  site.issue(without);
  OidcProvider provider(options(), clock);
  const std::pair<json::object, std::string> rows[] = {
      {{{"sub", "u1"}, {"email", "bob@x.org"}, {"email_verified", true}}, "bob@x.org"},
      {{{"sub", "u2"}, {"email", "bob@x.org"}, {"email_verified", true}}, "email_not_verified"},
      {{{"sub", "u1"}, {"email", "bob@x.org"}, {"email_verified", false}}, "email_not_verified"},
      {{{"sub", "u1"}, {"email", "bob@x.org"}}, "email_not_verified"},
  };
  for (const auto& [person, result] : rows) {
    site.answer("/userinfo", 200, person);
    EXPECT_EQ(sign_in(provider), result) << to_text(person);
  }
}

TEST_F(OidcTest, new_signing_keys_are_asked_for_once) {
  site.issue(claims(flow));
  OidcProvider provider(options(), clock);
  EXPECT_EQ(sign_in(provider), "Ada@x.org");
  site.sign_with("k2");
  site.publish_keys();
  EXPECT_EQ(sign_in(provider), "Ada@x.org");
  EXPECT_EQ(site.asked("/keys"), 2);
  site.sign_with("k3");  // and never publishes it
  EXPECT_EQ(sign_in(provider), "unknown_signing_key");
  EXPECT_EQ(site.asked("/keys"), 3);
  site.sign_with("k2");  // another key under a known name: forged
  EXPECT_EQ(sign_in(provider), "bad_id_token");
  EXPECT_EQ(site.asked("/keys"), 3);
}

TEST_F(OidcTest, a_provider_that_does_not_keep_its_word) {
  const std::string discovery = "/.well-known/openid-configuration";
  const struct {
    std::string path;
    int status;
    json::object body;
    std::string reason;
  } rows[] = {
      {"/token", 400, {{"error", "invalid_grant"}}, "bad_code"},
      {"/token", 401, {{"error", "invalid_client"}}, "provider_unavailable"},
      {"/token", 500, {}, "provider_unavailable"},
      {"/token", 302, {}, "provider_unavailable"},
      {"/token", 200, {}, "bad_id_token"},
      {"/keys", 500, {}, "provider_unavailable"},
      {"/keys", 200, {{"keys", json::array{}}}, "unknown_signing_key"},
      {discovery, 404, {}, "provider_unavailable"},
      {discovery, 200, {{"issuer", "https://evil.example.org"}}, "provider_unavailable"},
  };
  for (const auto& row : rows) {
    testing::OpenidProvider fresh;
    fresh.answer(row.path, row.status, row.body);
    OidcOptions there = options();
    there.issuer = fresh.issuer();
    OidcProvider provider(there, clock);
    EXPECT_EQ(sign_in(provider), row.reason) << row.path << " " << row.status;
  }
}

TEST_F(OidcTest, a_provider_that_leads_to_plain_http_is_refused) {
  site.answer("/.well-known/openid-configuration", 200,
              json::object{{"issuer", site.issuer()}, {"authorization_endpoint", "http://x.example.org/"}});
  OidcProvider provider(options(), clock);
  EXPECT_EQ(sign_in(provider), "provider_unavailable");
}

TEST_F(OidcTest, a_token_of_another_sign_in_is_refused) {
  site.issue(claims(OidcFlow::start()));
  OidcProvider provider(options(), clock);
  EXPECT_EQ(sign_in(provider), "bad_id_token");
}

TEST_F(OidcTest, a_silent_provider_is_left_alone_for_a_while) {
  class FixedClock final : public Clock {
   public:
    int64_t now_ns() const override { return ns; }
    int64_t unix_ms() const override { return SystemClock().unix_ms(); }
    int64_t ns = 1;
  } fixed;
  site.issue(claims(flow));
  site.answer("/keys", 500, nullptr);
  OidcProvider provider(options(), fixed);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(sign_in(provider), "provider_unavailable");
  EXPECT_EQ(site.asked("/keys"), 1);
  fixed.ns += (limits::kOidcRetrySeconds + 1) * 1'000'000'000;
  EXPECT_EQ(sign_in(provider), "provider_unavailable");
  EXPECT_EQ(site.asked("/keys"), 2);
}

TEST_F(OidcTest, options_that_will_not_do) {
  const std::pair<std::string, std::function<void(OidcOptions&)>> rows[] = {
      {"issuer", [](OidcOptions& o) { o.issuer = "http://id.example.org"; }},
      {"issuer", [](OidcOptions& o) { o.issuer = "example"; }},
      {"public_url", [](OidcOptions& o) { o.public_url = ""; }},
      {"public_url", [](OidcOptions& o) { o.public_url = "http://cloud.example.org"; }},
      {"client_id", [](OidcOptions& o) { o.client_id = ""; }},
      {"scopes", [](OidcOptions& o) { o.scopes = "email"; }},
  };
  for (const auto& [name, change] : rows) {
    OidcOptions wrong = options();
    change(wrong);
    try {
      OidcProvider provider(wrong, clock);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_THAT(error.message(), HasSubstr(name));
    }
  }
}

}  // namespace
}  // namespace neutrino::cloud
