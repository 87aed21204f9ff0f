// From clients to the ledger: usage is what the replicas' own logs say, to the token, though clients leave in the middle of answers and the
// gateway is killed under load. NEUTRINO_TEST_LONG=1: more kills.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/process.h"
#include "base/random.h"
#include "base/testing/temporary_folder.h"
#include "cloud/gateway.h"
#include "cloud/testing/ledger_checks.h"
#include "cloud/testing/programs.h"
#include "cloud/testing/stub_replica.h"
#include "cloud/usage_ledger.h"
#include "net/testing/raw_client.h"

namespace neutrino::cloud {
namespace testing {

// `metered-gateway JOURNAL PORT...`: a gateway on the listening socket 3 in front of replicas on these ports.
int run_metered_gateway(int argc, char** argv) {
  if (argc < 3) return 2;
  UsageJournal journal(argv[1]);
  Gateway gateway({.server = {.socket = 3, .tick = std::chrono::milliseconds(20)}, .usage = &journal});
  RouteTable table{.version = 1};
  DeploymentRoute deployment{.id = "d"};
  for (int i = 2; i < argc; ++i)
    deployment.replicas.push_back(
        {.id = fmt::format("r{}", i - 2), .host = "127.0.0.1", .port = std::atoi(argv[i])});
  table.endpoints.push_back({.id = "e1",
                             .workspace = "w",
                             .name = "e",
                             .prices = {.input = 2, .cached_input = 1, .output = 7},
                             .deployments = {deployment}});
  table.keys.push_back({.id = "k", .workspace = "w", .member = "m", .digest = to_hex(sha256("sk-k"))});
  gateway.listen();
  gateway.set_routes(table);
  gateway.run();
  return 0;
}

}  // namespace testing
namespace {

using net::testing::post;
using net::testing::RawClient;
using std::chrono::milliseconds;

FileDescriptor listen_anywhere(int& port) {
  FileDescriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
  socklen_t length = sizeof(address);
  auto* name = reinterpret_cast<sockaddr*>(&address);
  check(::bind(socket.get(), name, length) == 0 && ::listen(socket.get(), 512) == 0, "a port to listen on");
  ::getsockname(socket.get(), name, &length);
  port = ntohs(address.sin_port);
  return socket;
}

struct Tokens {
  int64_t input = 0, cached = 0, output = 0;
  auto operator<=>(const Tokens&) const = default;
};

class MeteringTest : public ::testing::Test {
 protected:
  static constexpr int kReplicas = 2;

  void SetUp() override {
    socket = listen_anywhere(port);
    for (int i = 0; i < kReplicas; ++i) {
      stubs.push_back(std::make_unique<testing::StubReplica>(
          testing::StubOptions{.token = milliseconds(2), .cache_tokens = 4096, .log = log_of(i)}));
      stubs.back()->start();
    }
  }
  std::filesystem::path log_of(int replica) const { return folder.path() / fmt::format("r{}.log", replica); }

  void start_gateway() {
    std::vector<std::string> argv = testing::program("metered-gateway");
    argv.push_back((folder.path() / "journal").string());
    for (const auto& stub : stubs) argv.push_back(std::to_string(stub->port()));
    gateway = spawn({.argv = argv, .error = STDERR_FILENO, .inherited = {socket.get()}});
  }
  void kill_gateway() {
    signal_process(gateway, SIGKILL);
    wait_for(gateway.pid);
  }

  // Asks until it is told to stop: for whole answers and streams, of which it leaves some in the middle.
  void be_a_client(uint64_t seed) {
    Random random(seed);
    while (!stopping) {
      const bool streams = random.below(3) > 0;
      const std::string body = fmt::format(
          R"({{"model":"e","stream":{},"max_tokens":{},"messages":[{{"role":"user","content":"{}"}}]}})",
          streams, 1 + random.below(30), std::string(static_cast<size_t>(random.below(600)), 'a'));
      RawClient client(port, milliseconds(2000));
      client.send(post("/v1/chat/completions", body, "Authorization: Bearer sk-k\r\n"));
      if (streams && random.below(3) == 0)
        client.read_until("data:");
      else
        answered += int64_t{client.read_reply().complete};
    }
  }

  // By usage id: what the replicas wrote down themselves.
  std::map<std::string, Tokens> logged() const {
    std::map<std::string, Tokens> all;
    for (int i = 0; i < kReplicas; ++i) {
      std::ifstream file(log_of(i));
      for (std::string line; std::getline(file, line);) {
        const json::value fields = parse_json(line);
        Tokens& tokens = all[std::string(fields.at("usage_id").as_string())];
        tokens.input += fields.at("prompt_tokens").as_int64();
        tokens.cached += fields.at("cached_tokens").as_int64();
        tokens.output += fields.at("completion_tokens").as_int64();
      }
    }
    return all;
  }

  LogChunk read_log(const std::string& replica, int64_t cursor, int64_t bytes_max) const {
    std::ifstream file(folder.path() / (replica + ".log"));
    std::stringstream text;
    text << file.rdbuf();
    const std::string part = text.str().substr(static_cast<size_t>(cursor), static_cast<size_t>(bytes_max));
    return {.text = part, .next = cursor + std::ssize(part)};
  }

  TemporaryFolder folder;
  int port = 0;
  FileDescriptor socket;
  std::vector<std::unique_ptr<testing::StubReplica>> stubs;
  ProcessIdentity gateway;
  std::atomic<bool> stopping = false;
  std::atomic<int64_t> answered = 0;
};

TEST_F(MeteringTest, UsageIsWhatTheReplicasLogsSayAcrossKills) {
  const int kills = std::getenv("NEUTRINO_TEST_LONG") ? 50 : 5;
  start_gateway();
  std::vector<std::thread> clients;
  for (uint64_t i = 0; i < 8; ++i) clients.emplace_back([this, i] { be_a_client(i); });
  for (int i = 0; i < kills; ++i) {
    // Work is under way, at a moment of it that is another each time.
    const int64_t before = answered;
    for (int waited_ms = 0; answered < before + 6 && waited_ms < 60'000; ++waited_ms)
      std::this_thread::sleep_for(milliseconds(1));
    std::this_thread::sleep_for(milliseconds(37 * i % 50));
    kill_gateway();
    start_gateway();
  }
  std::this_thread::sleep_for(milliseconds(100));
  stopping = true;
  for (std::thread& client : clients) client.join();
  kill_gateway();
  for (const auto& stub : stubs)
    while (stub->in_flight() > 0) std::this_thread::sleep_for(milliseconds(5));
  EXPECT_GT(answered, 10);

  store::Database database({.url = (folder.path() / "cloud.db").string()});
  migrate(database, kCloudComponent, cloud_migrations());
  const Tables tables;
  const SystemClock clock;
  UsageLedger ledger(database, tables, clock);
  Budget budget{.id = "b", .workspace = "w", .name = "b", .subject = "key", .subject_id = "k", .amount = 1};
  database.write([&](store::Transaction& tx) { tables.budgets.insert(tx, budget); });
  UsageJournal journal(folder.path() / "journal");  // finds what was under way at the last kill
  for (int64_t counted = 0; counted < journal.last_sequence();)
    counted = ledger.count(journal.id(), journal.read_after(counted, 100), counted);
  const auto settle_at = [&](int64_t now_ms) {
    return ledger.settle([this](auto&&... arguments) { return read_log(arguments...); }, now_ms);
  };
  const int64_t settled = settle_at(clock.unix_ms());
  const int64_t never_came = settle_at(clock.unix_ms() + 61'000);
  EXPECT_GT(settled, kills);
  EXPECT_EQ(testing::count_of(database, "SELECT COUNT(*) FROM usage_requests WHERE settled = 0"), 0);

  std::map<std::string, Tokens> used;
  int64_t cost = 0;
  database.read([&](store::Transaction& tx) {
    const store::Rows rows =
        tx.query("SELECT id, input_tokens, cached_tokens, output_tokens, cost FROM usage_requests");
    for (const store::Row& row : rows.rows) {
      const auto number = [&](size_t at) { return store::as_integer(row.at(at), "a number"); };
      const Tokens tokens{number(1), number(2), number(3)};
      if (tokens != Tokens{}) used[store::as_text(row.at(0), "id")] = tokens;
      cost += number(4);
    }
  });
  EXPECT_EQ(used, logged());
  EXPECT_EQ(testing::count_of(database, "SELECT spent FROM budgets"), cost);
  testing::expect_sums_agree(database, tables, clock.unix_ms());
  fmt::print("{} requests, {} settled, {} never came to a replica\n", used.size(), settled, never_came);
}

}  // namespace
}  // namespace neutrino::cloud
