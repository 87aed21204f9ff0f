#include "cloud/testing/stub_replica.h"

#include <fcntl.h>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "cloud/balancer.h"
#include "net/server.h"
#include "net/sse.h"

namespace neutrino::cloud::testing {
namespace {

namespace asio = boost::asio;
using net::AuthPolicy;
using net::Interruption;
using net::Method;
using net::Request;
using net::Response;
using SteadyClock = std::chrono::steady_clock;

constexpr int64_t kBytesPerToken = 4;
constexpr int64_t kTokensDefault = 16;

struct Generation {
  bool chat = true, stream = false, usage = false;
  int64_t tokens = kTokensDefault;
  std::string prompt;
  StubServed served;
};

Generation read_generation(const Request& request, bool chat) {
  const json::value body = parse_json(request.body);
  const json::object& fields = body.as_object();
  Generation result{.chat = chat};
  const auto boolean = [](const json::object& from, std::string_view name) {
    const json::value* value = from.if_contains(name);
    return value && value->is_bool() && value->get_bool();
  };
  result.stream = boolean(fields, "stream");
  if (const json::value* options = fields.if_contains("stream_options"))
    result.usage = options->is_object() && boolean(options->get_object(), "include_usage");
  for (const std::string_view name : {"max_tokens", "max_completion_tokens"})
    if (const json::value* value = fields.if_contains(name)) result.tokens = value->to_number<int64_t>();
  if (const json::value* prompt = fields.if_contains(chat ? "messages" : "prompt"))
    result.prompt = to_text(*prompt);
  if (const json::value* model = fields.if_contains("model"))
    result.served.model = model->as_string().c_str();
  result.served.request_id = request.id;
  result.served.usage_id = request.header("x-neutrino-usage-id");
  result.served.traceparent = request.header("traceparent");
  result.served.authorization = request.header("authorization");
  result.served.prompt_tokens = static_cast<int64_t>(result.prompt.size()) / kBytesPerToken + 1;
  return result;
}

std::string usage_json(const StubServed& served) {
  return fmt::format(
      R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{}}}}})",
      served.prompt_tokens, served.completion_tokens, served.prompt_tokens + served.completion_tokens,
      served.cached_tokens);
}

std::string chunk_json(const Generation& generation, std::string_view choices, std::string_view more) {
  return fmt::format(R"({{"id":"stub","object":"{}","created":0,"model":"{}","choices":[{}]{}}})",
                     generation.chat ? "chat.completion.chunk" : "text_completion", generation.served.model,
                     choices, more);
}

}  // namespace

struct StubReplica::Impl {
  explicit Impl(StubOptions with)
      : options(std::move(with)),
        server({.host = options.host,
                .port = options.port,
                .connections_max = 20000,
                .tick = std::chrono::milliseconds(20)}),
        prefixes(options.cache_tokens / limits::kPrefixChunkTokens) {
    if (!options.log.empty())
      log = FileDescriptor(::open(options.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    server.set_routes(routes());
    server.listen();
  }

  std::vector<net::Route> routes();
  asio::awaitable<void> generate(const Request& request, Response& response, bool chat);
  asio::awaitable<void> stream(Generation& generation, Response& response);
  asio::awaitable<void> answer(Generation& generation, Response& response);
  asio::awaitable<bool> sleep(SteadyClock::time_point until, Response& response);
  SteadyClock::time_point prefill(Generation& generation);
  void served(Generation& generation);
  void check_ready() const {
    if (SteadyClock::now() < ready_at)
      throw Error(ErrorCode::unavailable, "starting").with_reason("not_ready");
  }

  StubOptions options;
  net::HttpServer server;
  PrefixIndex prefixes;
  SteadyClock::time_point free_at{}, ready_at = SteadyClock::now() + options.startup;
  FileDescriptor log;
  mutable std::mutex mutex;
  std::vector<StubServed> done;  // under the mutex
  std::atomic<int64_t> in_flight{0}, in_flight_max{0};
  std::thread thread;
};

std::vector<net::Route> StubReplica::Impl::routes() {
  const auto post = [](std::string_view path) {
    return net::RouteSpec{.method = Method::post,
                          .path = path,
                          .auth = AuthPolicy::open,
                          .admission = net::Admission::while_serving,
                          .body_bytes = limits::kBodyBytes};
  };
  const auto health = [this](const Request&, Response& response) -> asio::awaitable<void> {
    check_ready();
    response.send(200, R"({"status":"ok"})");
    co_return;
  };
  return {
      {post("/v1/chat/completions"), [this](const Request& q, Response& r) { return generate(q, r, true); }},
      {post("/v1/completions"), [this](const Request& q, Response& r) { return generate(q, r, false); }},
      {post("/v1/embeddings"),
       [this](const Request& request, Response& response) -> asio::awaitable<void> {
         Generation generation = read_generation(request, false);
         generation.served.complete = true;
         response.send(200, fmt::format(R"({{"object":"list","data":[{{"embedding":[0.5]}}],"usage":{}}})",
                                        usage_json(generation.served)));
         served(generation);
         co_return;
       }},
      {{.method = Method::get, .path = "/health", .auth = AuthPolicy::open}, health},
      {{.method = Method::get, .path = "/v1/health/ready", .auth = AuthPolicy::open}, health},
      {{.method = Method::get, .path = "/v1/large", .auth = AuthPolicy::open},
       [](const Request&, Response& response) -> asio::awaitable<void> {
         const std::string piece(64 << 10, 'x');
         co_await response.begin_stream("application/octet-stream");
         for (int i = 0; i < 1024; ++i) {
           const bool read = co_await response.write(piece);
           if (!read) co_return;
         }
       }},
  };
}

// False: the client left or the server stops.
asio::awaitable<bool> StubReplica::Impl::sleep(SteadyClock::time_point until, Response& response) {
  while (response.interruption() == Interruption::none) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - SteadyClock::now());
    if (left.count() <= 0) co_return true;
    co_await response.signal().wait(left);
  }
  co_return false;
}

// When the first token comes: after all prompts before it.
SteadyClock::time_point StubReplica::Impl::prefill(Generation& generation) {
  StubServed& served = generation.served;
  const auto hashes = prefix_hashes("stub", generation.prompt);
  served.cached_tokens =
      std::min(prefixes.match(hashes) * limits::kPrefixChunkTokens, served.prompt_tokens - 1);
  prefixes.add(hashes);
  if (options.prefill_tokens_per_second <= 0) return SteadyClock::now();
  const double seconds =
      static_cast<double>(served.prompt_tokens - served.cached_tokens) / options.prefill_tokens_per_second;
  free_at = std::max(free_at, SteadyClock::now()) +
            std::chrono::duration_cast<SteadyClock::duration>(std::chrono::duration<double>(seconds));
  return free_at;
}

asio::awaitable<void> StubReplica::Impl::generate(const Request& request, Response& response, bool chat) {
  check_ready();
  Generation generation = read_generation(request, chat);
  if (options.requests_max > 0 && in_flight >= options.requests_max)
    throw Error(ErrorCode::resource_exhausted, "the queue is full").with_reason("queue_full");
  const int64_t now = ++in_flight;
  in_flight_max = std::max<int64_t>(in_flight_max, now);
  struct Leave {
    std::atomic<int64_t>& count;
    ~Leave() { --count; }
  } leave{in_flight};
  const bool there = co_await sleep(prefill(generation), response);
  if (there && generation.stream) co_await stream(generation, response);
  if (there && !generation.stream) co_await answer(generation, response);
  served(generation);
  if (response.interruption() == Interruption::shutdown)
    throw Error(ErrorCode::unavailable, "shut down").with_reason("draining");
}

asio::awaitable<void> StubReplica::Impl::answer(Generation& generation, Response& response) {
  const bool there = co_await sleep(SteadyClock::now() + generation.tokens * options.token, response);
  if (!there) co_return;
  generation.served.completion_tokens = generation.tokens;
  generation.served.complete = true;
  std::string text;
  for (int64_t i = 0; i < generation.tokens; ++i) text += "word ";
  const std::string choice =
      generation.chat
          ? fmt::format(
                R"({{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"length"}})",
                text)
          : fmt::format(R"({{"index":0,"text":"{}","finish_reason":"length"}})", text);
  response.send(
      200,
      fmt::format(
          R"({{"id":"stub","object":"chat.completion","created":0,"model":"{}","choices":[{}],"usage":{}}})",
          generation.served.model, choice, usage_json(generation.served)));
}

asio::awaitable<void> StubReplica::Impl::stream(Generation& generation, Response& response) {
  net::EventStream events(response, std::chrono::seconds(15));
  co_await events.begin();
  const std::string_view null_usage = generation.usage ? R"(,"usage":null)" : "";
  auto next = SteadyClock::now();
  for (int64_t i = 0; i < generation.tokens; ++i) {
    const bool last = i + 1 == generation.tokens;
    const std::string_view text = generation.chat ? R"("delta":{"content":"word "})" : R"("text":"word ")";
    const std::string choice =
        fmt::format(R"({{"index":0,{},"finish_reason":{}}})", text, last ? "\"length\"" : "null");
    ++generation.served.completion_tokens;
    const bool read = co_await events.event(chunk_json(generation, choice, null_usage));
    if (!read) co_return;
    next += options.token;
    if (!last && options.token.count() > 0) co_await sleep(next, response);
    if (response.interruption() != Interruption::none) co_return;
  }
  if (generation.usage)
    co_await events.event(chunk_json(generation, "", ",\"usage\":" + usage_json(generation.served)));
  co_await events.event("[DONE]");
  generation.served.complete = true;
}

void StubReplica::Impl::served(Generation& generation) {
  const StubServed& one = generation.served;
  if (log) {
    const std::string line = fmt::format(
        "{{\"time_unix_ms\":{},\"request_id\":\"{}\",\"usage_id\":\"{}\",\"prompt_tokens\":{},"
        "\"cached_tokens\":{},\"completion_tokens\":{},\"complete\":{}}}\n",
        SystemClock().unix_ms(), one.request_id, one.usage_id, one.prompt_tokens, one.cached_tokens,
        one.completion_tokens, one.complete);
    write_all(log.get(), line, options.log);
  }
  const std::lock_guard lock(mutex);
  if (done.size() < 100'000) done.push_back(one);
}

StubReplica::StubReplica(StubOptions options) : impl_(new Impl(std::move(options))) {}

StubReplica::~StubReplica() {
  stop();
  if (impl_->thread.joinable()) impl_->thread.join();
}

int StubReplica::port() const { return impl_->server.port(); }
void StubReplica::run() { impl_->server.run(); }
void StubReplica::start() {
  impl_->thread = std::thread([this] { run(); });
}
void StubReplica::stop(std::chrono::milliseconds grace) { impl_->server.drain(grace); }

std::vector<StubServed> StubReplica::served() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->done;
}
int64_t StubReplica::in_flight() const { return impl_->in_flight; }
int64_t StubReplica::in_flight_max() const { return impl_->in_flight_max; }

}  // namespace neutrino::cloud::testing
