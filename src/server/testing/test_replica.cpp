#include "server/testing/test_replica.h"

#include "base/log.h"

namespace neutrino::server::testing {

TestReplica::TestReplica(ReplicaOptions options, chat::ChatModelInfo info) : model_(std::move(info)) {
  options.http.port = 0;
  options.http.tick = std::chrono::milliseconds(10);
  if (!options.request_log) options.request_log = "/dev/null";
  spdlog::set_level(spdlog::level::off);
  server_ = std::make_unique<ReplicaServer>(model_, metrics_, std::move(options));
  server_->listen();
  thread_ = std::thread([this] {
    server_->run();
    running_ = false;
  });
}

TestReplica::~TestReplica() {
  server_->stop();
  join();
}

void TestReplica::join() {
  if (thread_.joinable()) thread_.join();
}

net::testing::Reply TestReplica::post(std::string_view path, std::string_view body,
                                      std::string_view headers) const {
  return net::testing::ask(port(), net::testing::post(path, body, headers));
}

net::testing::Reply TestReplica::get(std::string_view path, std::string_view headers) const {
  return net::testing::ask(port(), net::testing::get(path, headers));
}

Events parse_events(std::string_view body) {
  Events events;
  while (!body.empty()) {
    const size_t end = std::min(body.find("\n\n"), body.size());
    const std::string_view event = body.substr(0, end);
    body.remove_prefix(std::min(end + 2, body.size()));
    if (event.starts_with(":"))
      ++events.comments;
    else if (event == "data: [DONE]")
      events.done = true;
    else if (event.starts_with("data: "))
      events.items.push_back(parse_json(event.substr(6)).as_object());
  }
  return events;
}

bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

std::string chat_body(std::string_view more) {
  return fmt::format(R"({{"model":"fake","messages":[{{"role":"user","content":"Hi"}}]{}{}}})",
                     more.empty() ? "" : ",", more);
}

std::string completion_body(std::string_view more) {
  return fmt::format(R"({{"model":"fake","prompt":"Hi"{}{}}})", more.empty() ? "" : ",", more);
}

}  // namespace neutrino::server::testing
