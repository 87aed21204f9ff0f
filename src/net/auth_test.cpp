#include "net/auth.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace neutrino::net {
namespace {

Request with(std::vector<Header> headers) { return {.headers = std::move(headers)}; }

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.reason().empty() ? "error" : error.reason();
  }
  return "";
}

TEST(HostNames, KnowLoopbackBoundAndConfiguredNames) {
  const HostNames hosts("192.168.1.5", {"Llm.Example"});
  for (const std::string_view good :
       {"localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:80", "192.168.1.5:8000", "llm.example"})
    EXPECT_TRUE(hosts.allows(good)) << good;
  for (const std::string_view bad : {"", "evil.example", "localhost.evil", "127.0.0.1.evil:80", "192.168.1.6",
                                     "localhost:80x", "[::1", "[::1]x", "localhost:"})
    EXPECT_EQ(hosts.allows(bad), bad == "localhost:") << bad;
  const HostNames wildcard("0.0.0.0", {});
  EXPECT_TRUE(wildcard.allows("10.1.2.3:8000"));  // an address cannot be rebound
  EXPECT_FALSE(wildcard.allows("evil.example"));
}

TEST(BrowserRules, ForeignPagesAreRefused) {
  const HostNames hosts("127.0.0.1", {});
  const auto check = [&](std::string host, std::string origin) {
    return refusal([&] {
      check_browser_rules(with({{"host", host}, {"origin", origin}}), hosts, {"https://console.example"});
    });
  };
  EXPECT_EQ(check("localhost:8000", ""), "");
  EXPECT_EQ(check("localhost:8000", "http://localhost:8000"), "");
  EXPECT_EQ(check("localhost:8000", "https://console.example"), "");
  EXPECT_EQ(check("localhost:8000", "http://localhost:3000"), "origin_not_allowed");
  EXPECT_EQ(check("localhost:8000", "null"), "origin_not_allowed");
  EXPECT_EQ(check("localhost:8000", "https://console.example.evil"), "origin_not_allowed");
  EXPECT_EQ(check("rebound.example:8000", "http://rebound.example:8000"), "host_not_allowed");
}

TEST(Bind, BeyondLoopbackNeedsCredentialsAndTlsOrAWordAboutIt) {
  for (const std::string_view host : {"127.0.0.1", "127.8.8.8", "::1", "localhost"})
    EXPECT_NO_THROW(check_bind(host, {})) << host;
  for (const std::string_view host : {"0.0.0.0", "::", "192.168.1.5", "example.org"}) {
    EXPECT_THROW(check_bind(host, {}), Error) << host;
    EXPECT_THROW(check_bind(host, {.has_key = true}), Error) << host;
    EXPECT_THROW(check_bind(host, {.has_tls = true}), Error) << host;
    EXPECT_THROW(check_bind(host, {.insecure_no_tls = true}), Error) << host;
    EXPECT_NO_THROW(check_bind(host, {.has_key = true, .insecure_no_tls = true})) << host;
    EXPECT_NO_THROW(check_bind(host, {.has_key = true, .has_tls = true})) << host;
    EXPECT_NO_THROW(check_bind(host, {.has_tls = true, .has_client_ca = true})) << host;
  }
}

}  // namespace
}  // namespace neutrino::net
