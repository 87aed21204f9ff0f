// Watching what is written: by asking again, by waiting, as a stream; across cuts, and until the key is revoked.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "cloud/testing/api_server.h"

namespace neutrino::cloud {
namespace {

using net::testing::RawClient;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::ApiServer;
using testing::bearer;
using testing::refusal;
using testing::Reply;

class ChangesTest : public store::testing::OnBothEngines {
 protected:
  void SetUp() override {
    server.emplace(new_url());
    server->add_workspace("w");
    server->add_workspace("v");
    key = server->add_key("w", Role::viewer);
  }
  int64_t write(const std::string& workspace) {
    Replica row{.id = fmt::format("r-{}", ++written), .workspace = workspace};
    return server->insert(server->tables().replicas, row).id == row.id ? last() : 0;
  }
  int64_t last() {
    return server->database().read([](store::Transaction& tx) { return store::last_change(tx); });
  }
  json::object changes(const std::string& query) {
    return server->get(server->call("GET", "/api/v1/changes?" + query, key));
  }
  std::string stream_request(int64_t since, int64_t last_event = -1) {
    std::string headers = bearer(key) + "Accept: text/event-stream\r\n";
    if (last_event >= 0) headers += fmt::format("Last-Event-ID: {}\r\n", last_event);
    return net::testing::get(fmt::format("/api/v1/changes?kind=replica&since={}", since), headers);
  }

  std::optional<ApiServer> server;
  std::string key;
  std::atomic<int> written{0};
};

TEST_P(ChangesTest, are_told_once_and_only_the_workspaces_own) {
  const int64_t begin = changes("").at("seen").as_int64();
  EXPECT_EQ(begin, last());
  write("w"), write("v"), write("w");
  const std::string since = fmt::format("since={}", begin);
  const json::object all = changes(since);
  EXPECT_EQ(all.at("changes").as_array().size(), 2u);
  EXPECT_EQ(all.at("changes").at(0).at("id").as_string(), "r-1");
  EXPECT_EQ(all.at("changes").at(1).at("id").as_string(), "r-3");
  EXPECT_EQ(all.at("seen").as_int64(), last());
  EXPECT_EQ(changes(since + "&kind=endpoint,key").at("changes").as_array().size(), 0u);
  EXPECT_EQ(changes(fmt::format("since={}", last())).at("changes").as_array().size(), 0u);
  EXPECT_EQ(refusal(server->call("GET", "/api/v1/changes?since=999999", key)), "410 too_old -");
}

TEST_P(ChangesTest, a_call_waits_for_the_first) {
  const int64_t begin = last();
  std::thread later([&] {
    std::this_thread::sleep_for(milliseconds(100));
    write("v");
    write("w");
  });
  const auto start = steady_clock::now();
  const json::object seen = changes(fmt::format("since={}&wait_ms=20000", begin));
  EXPECT_LT(steady_clock::now() - start, milliseconds(5000));
  later.join();
  EXPECT_EQ(seen.at("changes").as_array().size(), 1u);
  EXPECT_EQ(changes(fmt::format("since={}&wait_ms=50", last())).at("changes").as_array().size(), 0u);
}

// The ids of a stream's events that came as a whole.
std::vector<int64_t> ids_in(const std::string& text) {
  std::vector<int64_t> ids;
  for (size_t at = text.find("id: "); at != std::string::npos; at = text.find("id: ", at + 4)) {
    const size_t line = text.find('\n', at);
    if (line == std::string::npos || text.find("\n\n", line) == std::string::npos) break;
    if (text.compare(line + 1, 6, "data: ") == 0) ids.push_back(std::stoll(text.substr(at + 4)));
  }
  return ids;
}

// Of the replicas r-1, r-2, ... each third is the other workspace's; the name of the n-th of our own, n from 0.
std::string own_name(size_t n) { return fmt::format("\"r-{}\"", 3 * (n / 2) + 2 + n % 2); }

TEST_P(ChangesTest, a_stream_that_is_cut_goes_on_without_a_loss) {
  const int64_t begin = last();
  std::vector<int64_t> expected, seen;
  std::thread writer([&] {
    for (int i = 0; i < 120; ++i) {
      const int64_t number = write(i % 3 == 0 ? "v" : "w");
      if (i % 3 != 0) expected.push_back(number);
    }
  });
  int64_t resume = -1;
  const auto end = steady_clock::now() + milliseconds(120'000);
  while (seen.size() < 80 && steady_clock::now() < end) {
    RawClient client(server->port());
    client.send(stream_request(begin, resume));
    client.read_until(
        own_name(std::min<size_t>(seen.size() + 10, 80) - 1));  // somewhere on the way, then the cut
    const std::vector<int64_t> ids = ids_in(client.seen());
    seen.insert(seen.end(), ids.begin(), ids.end());
    if (!ids.empty()) resume = ids.back();
    client.reset();
  }
  writer.join();
  EXPECT_EQ(seen, expected);
}

TEST_P(ChangesTest, watchers_take_no_thread_each) {  // the server has two workers
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 50; ++i) {
    clients.push_back(std::make_unique<RawClient>(server->port()));
    clients.back()->send(stream_request(last()));
  }
  for (const auto& client : clients) ASSERT_TRUE(client->read_until(": watching"));
  write("w");
  for (const auto& client : clients) EXPECT_TRUE(client->read_until("\"r-1\""));
}

TEST_P(ChangesTest, a_stream_ends_with_its_key) {
  RawClient client(server->port());
  client.send(stream_request(last()));
  ASSERT_TRUE(client.read_until(": watching"));
  server->database().write([&](store::Transaction& tx) {
    tx.execute("UPDATE api_keys SET revoked_ms = 1 WHERE workspace = 'w'");
  });
  const auto start = steady_clock::now();
  EXPECT_TRUE(client.read_until("revoked_key"));
  EXPECT_TRUE(client.closed_by_peer());
  EXPECT_LT(steady_clock::now() - start, milliseconds(3000)) << "within a second; CI has three";
}

NEUTRINO_ON_BOTH_ENGINES(ChangesTest);

}  // namespace
}  // namespace neutrino::cloud
