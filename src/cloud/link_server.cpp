#include <openssl/crypto.h>

#include <charconv>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "cloud/limits.h"
#include "cloud/link.h"
#include "net/signal.h"

// g++ 12 at -O1 takes a coroutine frame's own operator delete for a stranger's.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace neutrino::cloud {
namespace {

namespace asio = boost::asio;
using net::Method;
using net::Request;
using net::Response;
using std::chrono::milliseconds;

constexpr milliseconds kPoll{20'000};  // that a question for a new table is kept open

int64_t version_of(const Request& request) {
  constexpr std::string_view kName = "version=";
  const std::string_view query = request.query;
  int64_t version = 0;
  const bool named = query.starts_with(kName);
  const char* const end = query.data() + query.size();
  const auto read = named ? std::from_chars(query.data() + kName.size(), end, version)
                          : std::from_chars_result{query.data(), std::errc::invalid_argument};
  if (read.ec != std::errc{} || read.ptr != end)
    throw make_error(ErrorCode::invalid_argument, "the query must be version=N, got \"{:.60}\"", query)
        .with_param("version");
  return version;
}

std::string table_message(const PublishedRoutes& routes, const std::string& gateway) {
  const auto counted = routes.counted.find(gateway);
  return fmt::format(R"({{"version":{},"usage_sequence":{},"table":{}}})", routes.version,
                     counted == routes.counted.end() ? 0 : counted->second, routes.text);
}

}  // namespace

struct LinkServer::Impl {
  Impl(net::HttpServer& s, net::Workers& w, LinkServices with, std::string secret)
      : server(s), workers(w), services(std::move(with)), token(std::move(secret)), wakeups(s.executor()) {}

  void check_token(const Request& request) const;
  asio::awaitable<void> routes(const Request& request, Response& response);
  asio::awaitable<void> report(const Request& request, Response& response);
  asio::awaitable<void> usage(const Request& request, Response& response);
  std::vector<net::Route> table();

  net::HttpServer& server;
  net::Workers& workers;
  LinkServices services;
  const std::string token;
  net::Wakeups wakeups;
};

void LinkServer::Impl::check_token(const Request& request) const {
  const std::string expected = "Bearer " + token;
  const std::string_view got = request.header("authorization");
  if (got.size() != expected.size() || CRYPTO_memcmp(got.data(), expected.data(), got.size()) != 0)
    throw Error(ErrorCode::unauthenticated, "this is for gateways with the link's token")
        .with_reason("invalid_api_key");
}

asio::awaitable<void> LinkServer::Impl::routes(const Request& request, Response& response) {
  const int64_t known = version_of(request);
  const auto until = std::chrono::steady_clock::now() + kPoll;
  const net::Wakeups::Subscription subscription(wakeups, response.signal());
  for (;;) {
    const auto newest = services.routes.newest();
    if (newest && newest->version != known) {
      response.send(200, table_message(*newest, request.parameter));
      co_return;
    }
    const auto left = std::chrono::duration_cast<milliseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0 || response.interruption() != net::Interruption::none) break;
    co_await response.signal().wait(left);
  }
  response.send(204, "");
}

asio::awaitable<void> LinkServer::Impl::report(const Request& request, Response& response) {
  co_await workers.run([&] {
    const json::value body = parse_json(request.body);
    GatewayReport report;
    read_json(report, body.at("report"), Accept::from_storage, "report");
    std::vector<std::string> wakes;
    value_from_json(wakes, body.at("wake"), Accept::from_storage, "wake");
    services.report(request.parameter, std::move(report), std::move(wakes));
  });
  response.send(200, "{}");
}

asio::awaitable<void> LinkServer::Impl::usage(const Request& request, Response& response) {
  int64_t counted = 0;
  co_await workers.run([&] {
    const json::value body = parse_json(request.body);
    std::vector<UsageRecord> records;
    value_from_json(records, body.at("records"), Accept::from_storage, "records");
    counted = services.count(request.parameter, body.at("after").to_number<int64_t>(), std::move(records));
  });
  response.send(200, fmt::format(R"({{"usage_sequence":{}}})", counted));
}

std::vector<net::Route> LinkServer::Impl::table() {
  std::vector<net::Route> all;
  const auto add = [&](Method method, std::string_view path, auto handler) {
    all.push_back({{.method = method,
                    .path = path,
                    .auth = net::AuthPolicy::open,  // but for the token
                    .body_bytes = method == Method::get ? 0 : limits::kLinkBytes,
                    .any_content = true},
                   [this, handler](const Request& q, Response& r) { return (this->*handler)(q, r); },
                   [this](Request& q, Response&) { check_token(q); }});
  };
  add(Method::get, "/internal/v1/gateways/{id}/routes", &Impl::routes);
  add(Method::post, "/internal/v1/gateways/{id}/report", &Impl::report);
  add(Method::post, "/internal/v1/gateways/{id}/usage", &Impl::usage);
  return all;
}

LinkServer::LinkServer(net::HttpServer& server, net::Workers& workers, LinkServices services,
                       std::string token)
    : impl_(new Impl(server, workers, std::move(services), std::move(token))) {
  server.set_routes(impl_->table());
  server.spawn(impl_->wakeups.run());
  server.on_stop([impl = impl_.get()] { impl->wakeups.close(); });
  impl_->services.routes.on_publish([impl = impl_.get()] { impl->wakeups.wake(); });
}

LinkServer::~LinkServer() { impl_->services.routes.on_publish(nullptr); }

}  // namespace neutrino::cloud
