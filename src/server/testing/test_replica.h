// A replica over the scripted model, on a free port and a thread of its own, for tests.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/json.h"
#include "chat/testing/fake_chat_model.h"
#include "net/testing/raw_client.h"
#include "server/server.h"

namespace neutrino::server::testing {

class TestReplica {
 public:
  explicit TestReplica(ReplicaOptions options = {},
                       chat::ChatModelInfo info = chat::testing::FakeChatModel::default_info());
  ~TestReplica();

  int port() const { return server_->port(); }
  ReplicaServer& server() { return *server_; }
  chat::testing::FakeChatModel& model() { return model_; }
  Metrics& metrics() { return metrics_; }
  void join();  // waits for run() to return
  bool running() const { return running_; }

  net::testing::Reply post(std::string_view path, std::string_view body, std::string_view headers = "") const;
  net::testing::Reply get(std::string_view path, std::string_view headers = "") const;

 private:
  chat::testing::FakeChatModel model_;
  Metrics metrics_;
  std::unique_ptr<ReplicaServer> server_;
  std::atomic<bool> running_{true};
  std::thread thread_;
};

// The JSON of each `data:` event; "[DONE]" is left out, and said by `done`.
struct Events {
  std::vector<json::object> items;
  bool done = false;
  int comments = 0;
};
Events parse_events(std::string_view body);

// Polls until `condition` holds; false after `patience`.
bool eventually(const std::function<bool()>& condition,
                std::chrono::milliseconds patience = std::chrono::seconds(10));

// {"model":"fake","messages":[{"role":"user","content":"Hi"}], <more>}
std::string chat_body(std::string_view more = "");
std::string completion_body(std::string_view more = "");

}  // namespace neutrino::server::testing
