#include "cloud/route_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace neutrino::cloud {
namespace {

using ::testing::ElementsAre;

RouteTable table() {
  RouteTable result;
  result.endpoints.push_back(
      {.id = "e1", .workspace = "w", .name = "chat", .aliases = {"gpt"}, .adapters = {"chat-law"}});
  result.endpoints.push_back({.id = "e2", .workspace = "w", .name = "embed"});
  result.endpoints.push_back({.id = "e3", .workspace = "other", .name = "chat"});
  result.keys.push_back({.id = "k1", .workspace = "w", .digest = std::string(64, 'a')});
  result.keys.push_back({.id = "k2", .workspace = "w", .digest = std::string(64, 'b'), .models = {"embed"}});
  result.keys.push_back(
      {.id = "k3", .workspace = "w", .digest = std::string(64, 'c'), .models = {"chat-law"}});
  return result;
}

Sha256Digest digest(uint8_t byte) {
  Sha256Digest result{};
  result.fill(byte);
  return result;
}

TEST(RouteTable, NamesBelongToAWorkspace) {
  const RouteIndex index(table());
  EXPECT_EQ(index.model("w", "chat").endpoint->id, "e1");
  EXPECT_EQ(index.model("w", "gpt").endpoint->id, "e1");
  EXPECT_TRUE(index.model("w", "chat-law").is_adapter);
  EXPECT_EQ(index.model("other", "chat").endpoint->id, "e3");
  EXPECT_EQ(index.model("other", "gpt").endpoint, nullptr);
  EXPECT_EQ(index.key(digest(0xdd)), nullptr);
  EXPECT_THAT(index.models(*index.key(digest(0xaa))), ElementsAre("chat", "chat-law", "embed", "gpt"));
  EXPECT_THAT(index.models(*index.key(digest(0xbb))), ElementsAre("embed"));
  EXPECT_THAT(index.models(*index.key(digest(0xcc))), ElementsAre("chat-law"));
}

TEST(RouteTable, WhatContradictsItselfIsRefused) {
  const auto refused = [](auto change) {
    RouteTable bad = table();
    change(bad);
    EXPECT_THROW(RouteIndex index(bad), Error);
  };
  refused([](RouteTable& t) { t.endpoints[1].aliases = {"gpt"}; });
  refused([](RouteTable& t) { t.endpoints[0].policy = "best"; });
  refused([](RouteTable& t) { t.keys[1].digest = t.keys[0].digest; });
  refused([](RouteTable& t) { t.keys[1].digest = "ab"; });
  refused([](RouteTable& t) { t.keys[1].limits.addresses = {"10.0.0.0/33"}; });
}

TEST(RouteTable, TravelsAsJson) {
  RouteTable before = table();
  before.endpoints[0].deployments.push_back(
      {.id = "d", .api_key = "secret", .replicas = {{.id = "r", .host = "::1", .port = 80}}});
  before.budgets.push_back({.id = "b", .limit = 5});
  RouteTable after;
  read_json(after, to_json(before, Show::all_fields), Accept::from_storage);
  EXPECT_EQ(to_text(to_json(after, Show::all_fields)), to_text(to_json(before, Show::all_fields)));
  EXPECT_EQ(after.endpoints[0].deployments[0].replicas[0].port, 80);
  EXPECT_EQ(to_text(to_json(before)).find("secret"), std::string::npos);
}

TEST(RouteTable, AddressRanges) {
  struct Case {
    std::string_view range, address;
    bool allowed;
  };
  for (const Case& row : std::initializer_list<Case>{{"10.0.0.0/8", "10.255.1.2", true},
                                                     {"10.0.0.0/8", "11.0.0.1", false},
                                                     {"10.0.0.0/8", "::ffff:10.1.1.1", true},
                                                     {"192.168.1.128/25", "192.168.1.127", false},
                                                     {"192.168.1.128/25", "192.168.1.129", true},
                                                     {"127.0.0.1", "127.0.0.1", true},
                                                     {"127.0.0.1", "127.0.0.2", false},
                                                     {"2001:db8::/33", "2001:db8:7fff::1", true},
                                                     {"2001:db8::/33", "2001:db8:8000::1", false},
                                                     {"0.0.0.0/0", "1.2.3.4", true},
                                                     {"0.0.0.0/0", "::1", false},
                                                     {"::1", "nonsense", false}})
    EXPECT_EQ(address_allowed({std::string(row.range)}, row.address), row.allowed)
        << row.range << row.address;
  EXPECT_TRUE(address_allowed({}, "1.2.3.4"));
  for (const char* bad : {"", "10.0.0.0/", "10.0.0.0/-1", "10.0.0/8", "::1/129", "a", "10.0.0.0/8x"})
    EXPECT_FALSE(is_address_range(bad)) << bad;
}

}  // namespace
}  // namespace neutrino::cloud
