#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <set>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/random.h"
#include "base/sha256.h"
#include "cloud/limits.h"
#include "cloud/link.h"

// g++ 12 at -O1 takes a coroutine frame's own operator delete for a stranger's.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace neutrino::cloud {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr milliseconds kRetryMin{50}, kRetryMax{1000};
constexpr milliseconds kUsagePause{200};       // between looks at a journal without news
constexpr size_t kUsageRecords = 500;          // of one message
constexpr int64_t kTableValues = 100'000'000;  // of a route table
constexpr auto kLastUsage = std::chrono::seconds(1);
constexpr int64_t kShownMilliseconds = 120'000;  // an endpoint without traffic is reported for so long

std::string random_hex() {
  std::string bytes;
  for (int i = 0; i < 4; ++i) {
    const uint64_t word = system_entropy();
    bytes.append(reinterpret_cast<const char*>(&word), sizeof word);
  }
  return to_hex(sha256(bytes));
}

// Endpoints where nothing goes on say nothing: there may be thousands.
bool has_news(const EndpointSignals& signals, int64_t now_ms) {
  return signals.requests_in_flight > 0 || signals.requests_held > 0 ||
         now_ms - signals.last_request_ms < kShownMilliseconds;
}

}  // namespace

std::string file_token(const fs::path& file) {
  if (!fs::exists(file)) {
    fs::create_directories(file.parent_path());
    write_file_atomic(file, random_hex(), 0600);
  }
  struct stat facts {};
  if (::stat(file.c_str(), &facts) != 0) throw system_error("read", file);
  if ((facts.st_mode & 077) != 0)
    throw make_error(ErrorCode::permission_denied,
                     "{} holds a secret, and others than its owner may read it: chmod 600", file.string());
  return read_file(file, 256);
}

struct GatewayLink::Impl {
  Impl(Gateway& g, UsageJournal& j, GatewayLinkOptions o)
      : gateway(g), journal(j), options(std::move(o)), id(journal.id()), client(context.get_executor()) {}

  struct Answer {
    int status = 0;  // 0: none came
    std::string body;
  };
  asio::awaitable<Answer> ask(std::string_view method, std::string target, std::string body,
                              milliseconds patience);
  asio::awaitable<void> routes_loop();
  asio::awaitable<void> report_loop();
  asio::awaitable<void> usage_loop();
  asio::awaitable<void> pause(milliseconds time);
  std::string target(std::string_view what) const {
    return "/internal/v1/gateways/" + id + "/" + std::string(what);
  }
  void load_kept();
  void take_table(const std::string& message);
  std::string report_message();
  asio::awaitable<bool> send_usage();

  Gateway& gateway;
  UsageJournal& journal;
  const GatewayLinkOptions options;
  const std::string id;
  asio::io_context context{1};
  net::HttpClient client;
  asio::steady_timer report_timer{context}, last_chance{context};
  std::set<net::ClientExchange*> exchanges;
  std::set<asio::steady_timer*> timers;
  std::set<std::string> wakes;
  int64_t version = 0;
  int64_t counted = 0;  // of the journal
  bool stopping = false, finishing = false;
  std::thread thread;
};

asio::awaitable<GatewayLink::Impl::Answer> GatewayLink::Impl::ask(std::string_view method, std::string target,
                                                                  std::string body, milliseconds patience) {
  net::ClientExchange exchange(client, options.control_plane,
                               {.first_byte = patience, .idle = milliseconds(5000)});
  exchanges.insert(&exchange);
  net::ClientRequest request{.method = method, .target = target};
  request.headers = {{"Authorization", "Bearer " + options.token}};
  request.body = body;
  Answer answer;
  if (co_await exchange.send(request) == net::ClientFault::none) {
    for (std::string_view piece = co_await exchange.read(); !piece.empty(); piece = co_await exchange.read())
      answer.body += piece;
    if (exchange.fault() == net::ClientFault::none) answer.status = exchange.status();
  }
  exchanges.erase(&exchange);
  co_return answer;
}

asio::awaitable<void> GatewayLink::Impl::pause(milliseconds time) {
  asio::steady_timer timer(context, time);
  timers.insert(&timer);
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
  timers.erase(&timer);
}

// ---- route tables

void GatewayLink::Impl::load_kept() {
  try {
    if (fs::exists(options.folder / "routes.json"))
      take_table(read_file(options.folder / "routes.json", limits::kRouteTableBytes));
  } catch (const Error& error) {
    spdlog::warn("the kept route table is of no use error=\"{}\"", error.message());
  }
  version = 0;  // ask for the newest in any case
}

void GatewayLink::Impl::take_table(const std::string& message) {
  const json::value value = parse_json(message, kTableValues);
  RouteTable table;
  read_json(table, value.at("table"), Accept::from_storage, "table");
  table.version = value.at("version").to_number<int64_t>();
  table.usage_sequence = value.at("usage_sequence").to_number<int64_t>();
  const int64_t taken = table.version;
  gateway.set_routes(std::move(table));
  version = taken;
}

asio::awaitable<void> GatewayLink::Impl::routes_loop() {
  milliseconds retry = kRetryMin;
  while (!stopping) {
    const Answer answer = co_await ask("GET", target("routes") + "?version=" + std::to_string(version), "",
                                       milliseconds(60'000));
    if (answer.status == 204) continue;
    if (answer.status == 200) {
      retry = kRetryMin;
      try {
        take_table(answer.body);
        write_file_atomic(options.folder / "routes.json", answer.body, 0600);
        continue;
      } catch (const Error& error) {
        spdlog::error("a route table could not be taken error=\"{}\"", error.message());
      }
    }
    if (!stopping) co_await pause(retry);
    retry = std::min(2 * retry, kRetryMax);
  }
}

// ---- reports

std::string GatewayLink::Impl::report_message() {
  GatewayReport report = gateway.report();
  const int64_t now_ms = std::chrono::system_clock::now().time_since_epoch() / milliseconds(1);
  std::erase_if(report.endpoints, [&](const EndpointSignals& signals) { return !has_news(signals, now_ms); });
  json::array waking;
  for (const std::string& endpoint : wakes) waking.push_back(json::string(endpoint));
  return to_text(json::object{{"report", to_json(report)}, {"wake", std::move(waking)}});
}

asio::awaitable<void> GatewayLink::Impl::report_loop() {
  while (!stopping) {
    const std::set<std::string> told = wakes;
    const Answer answer = co_await ask("POST", target("report"), report_message(), milliseconds(5000));
    if (answer.status == 200)
      for (const std::string& endpoint : told) wakes.erase(endpoint);
    if (stopping || (answer.status == 200 && !wakes.empty())) continue;
    report_timer.expires_after(answer.status == 200 ? options.report_period : kRetryMin);
    co_await report_timer.async_wait(asio::as_tuple(asio::use_awaitable));
  }
}

// ---- usage

// True if there is more to send. What the control plane has counted is its word, also where it is less than what it said before:
// its database may be a backup's.
asio::awaitable<bool> GatewayLink::Impl::send_usage() {
  const std::vector<UsageRecord> records = journal.read_after(counted, kUsageRecords);
  if (records.empty()) co_return false;
  const json::object message{{"after", counted}, {"records", value_to_json(records)}};
  const Answer answer = co_await ask("POST", target("usage"), to_text(message), milliseconds(30'000));
  if (answer.status != 200) co_return false;
  const int64_t before =
      std::exchange(counted, parse_json(answer.body).at("usage_sequence").to_number<int64_t>());
  journal.forget(counted);
  co_return counted != before;
}

asio::awaitable<void> GatewayLink::Impl::usage_loop() {
  while (!finishing) {
    bool more = false;
    try {
      more = co_await send_usage();
    } catch (const std::exception& error) {
      spdlog::error("usage could not be sent, and is tried again error=\"{}\"", error.what());
    }
    if (!more && stopping) break;
    if (!more) co_await pause(kUsagePause);
  }
  last_chance.cancel();
  client.stop();
}

// ---- life

GatewayLink::GatewayLink(Gateway& gateway, UsageJournal& journal, GatewayLinkOptions options)
    : impl_(new Impl(gateway, journal, std::move(options))) {
  Impl& impl = *impl_;
  impl.load_kept();
  asio::co_spawn(impl.context, impl.routes_loop(), asio::detached);
  asio::co_spawn(impl.context, impl.report_loop(), asio::detached);
  asio::co_spawn(impl.context, impl.usage_loop(), asio::detached);
  impl.thread = std::thread([&impl] { impl.context.run(); });
}

GatewayLink::~GatewayLink() {
  Impl& impl = *impl_;
  asio::post(impl.context, [&impl] {
    impl.stopping = true;
    impl.report_timer.cancel();
    for (asio::steady_timer* timer : impl.timers) timer->cancel();
    for (net::ClientExchange* exchange : impl.exchanges) exchange->cancel();
    impl.last_chance.expires_after(kLastUsage);
    impl.last_chance.async_wait([&impl](boost::system::error_code error) {
      if (error) return;
      impl.finishing = true;
      for (net::ClientExchange* exchange : impl.exchanges) exchange->cancel();
    });
  });
  impl.thread.join();
}

void GatewayLink::wake(const std::string& endpoint) {
  asio::post(impl_->context, [impl = impl_.get(), endpoint] {
    impl->wakes.insert(endpoint);
    impl->report_timer.cancel();
  });
}

}  // namespace neutrino::cloud
