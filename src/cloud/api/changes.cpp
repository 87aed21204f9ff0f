#include "cloud/api/changes.h"

#include <algorithm>
#include <charconv>
#include <memory>

#include "base/error.h"
#include "cloud/api/query.h"
#include "cloud/api/watch.h"
#include "cloud/limits.h"
#include "net/workers.h"

// g++ 12 at -O1 takes a coroutine frame's own operator delete for a stranger's.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace neutrino::cloud {
namespace {

using net::Interruption;
using net::Response;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using store::Change;
using store::ChangePage;

constexpr milliseconds kLookAtCaller{1000};  // so soon a stream ends when its key is revoked
constexpr milliseconds kPing{15'000};        // of silence, after which a comment says that we live

struct Watch {
  int64_t since = -1;  // -1: from now on
  int64_t wait_ms = 0;
  std::vector<std::string> kinds;  // empty: all
};

// A client that comes back after a cut says what it saw last in Last-Event-ID; that counts for more than its URL.
int64_t since_of(const ApiCall& call) {
  const int64_t asked = query_integer(call.query, "since", -1, 0, limits::kAmountMax);
  const std::string_view last = call.http.header("last-event-id");
  int64_t seen = 0;
  const auto [end, error] = std::from_chars(last.data(), last.data() + last.size(), seen);
  return !last.empty() && error == std::errc() && end == last.data() + last.size() && seen >= 0 ? seen
                                                                                                : asked;
}

Watch watch_of(const ApiCall& call) {
  allow_only(call.query, {"since", "wait_ms", "kind"});
  return {.since = since_of(call),
          .wait_ms = query_integer(call.query, "wait_ms", 0, 0, limits::kApiWaitMilliseconds),
          .kinds = query_list(call.query, "kind")};
}

class Watcher {
 public:
  Watcher(const ApiServices& services, Watchers& watchers, ApiCall& call, Response& response)
      : services_(services), watchers_(watchers), call_(call), response_(response), watch_(watch_of(call)) {}

  asio::awaitable<void> answer_once();
  asio::awaitable<void> stream();

 private:
  // What came after `seen_`, of the kinds asked for. Checks the caller.
  asio::awaitable<std::vector<Change>> look();
  bool goes_on() const { return response_.interruption() == Interruption::none; }

  const ApiServices& services_;
  Watchers& watchers_;
  ApiCall& call_;
  Response& response_;
  const Watch watch_;
  int64_t seen_ = -1;
};

asio::awaitable<std::vector<Change>> Watcher::look() {
  ChangePage page;
  co_await call_.workers->run([&] {
    call_.check_caller();
    page = services_.database.read([&](store::Transaction& transaction) {
      if (seen_ < 0) seen_ = watch_.since >= 0 ? watch_.since : last_change(transaction);
      return read_changes(transaction, {.since = seen_, .workspace = call_.caller.workspace});
    });
  });
  seen_ = page.seen;
  std::erase_if(page.changes, [&](const Change& change) {
    return !watch_.kinds.empty() && std::ranges::find(watch_.kinds, change.kind) == watch_.kinds.end();
  });
  co_return std::move(page.changes);
}

asio::awaitable<void> Watcher::answer_once() {
  const auto end = steady_clock::now() + milliseconds(watch_.wait_ms);
  std::vector<Change> changes = co_await look();
  while (changes.empty() && goes_on()) {
    const auto left = std::chrono::duration_cast<milliseconds>(end - steady_clock::now());
    if (left <= milliseconds(0)) break;
    co_await watchers_.wait(response_, seen_, std::min(left, kLookAtCaller));
    changes = co_await look();
  }
  json::array items;
  for (const Change& change : changes) items.push_back(to_json(change));
  response_.set_header("Cache-Control", "no-store");
  response_.send(200, to_text(json::object{{"changes", std::move(items)}, {"seen", seen_}}));
}

std::string event_of(const Change& change) {
  return fmt::format("id: {}\ndata: {}\n\n", change.seq, to_text(to_json(change)));
}

asio::awaitable<void> Watcher::stream() {
  std::vector<Change> changes = co_await look();  // what is wrong is told with a status, before the stream
  response_.set_header("Cache-Control", "no-cache");
  response_.set_header("X-Accel-Buffering", "no");
  co_await response_.begin_stream("text/event-stream; charset=utf-8");
  // Where it begins, for a client that is cut off before the first event.
  if (!co_await response_.write(fmt::format("id: {}\n: watching\n\n", seen_))) co_return;
  auto written = steady_clock::now();
  while (goes_on()) {
    std::string text;
    for (const Change& change : changes) text += event_of(change);
    if (text.empty() && steady_clock::now() - written >= kPing)
      text = fmt::format("id: {}\n: ping\n\n", seen_);
    if (!text.empty()) {
      if (!co_await response_.write(text)) co_return;
      written = steady_clock::now();
    }
    co_await watchers_.wait(response_, seen_, kLookAtCaller);
    if (goes_on()) changes = co_await look();
  }
}

asio::awaitable<void> send_changes(const ApiServices& services, std::shared_ptr<Watchers> watchers,
                                   ApiCall& call, Response& response) {
  Watcher watcher(services, *watchers, call, response);
  const bool wants_events = call.http.header("accept").find("text/event-stream") != std::string_view::npos;
  if (wants_events && call.http.method == net::Method::get)
    co_await watcher.stream();
  else
    co_await watcher.answer_once();
}

constexpr std::string_view kParameters = R"([
  {"name": "since", "in": "query", "description": "only what came after this number; absent: from now on", "schema": {"type": "integer"}},
  {"name": "wait_ms", "in": "query", "description": "for the first change, where there is none yet", "schema": {"type": "integer", "default": 0}},
  {"name": "kind", "in": "query", "description": "kinds of objects, parted by commas", "schema": {"type": "string"}}])";

constexpr std::string_view kAnswer = R"({"type": "object", "required": ["changes", "seen"], "properties": {
  "changes": {"type": "array", "items": {"type": "object"}},
  "seen": {"type": "integer", "description": "ask for what came after this"}}})";

}  // namespace

ApiRoute changes_route(const ApiServices& services) {
  const auto watchers = std::make_shared<Watchers>(services.changes);
  return {.spec = {.method = net::Method::get,
                   .path = "/api/v1/changes",
                   .query = kParameters,
                   .summary = "what was written since; events with Accept: text/event-stream",
                   .answer_schema = kAnswer},
          .needs = Needs::viewer,
          .raw = [&services, watchers](ApiCall& call, Response& response) {
            return send_changes(services, watchers, call, response);
          }};
}

}  // namespace neutrino::cloud
