// Replicas through the API: what the controller knows of each, and what it wrote.
#include <algorithm>

#include "cloud/api/collection.h"
#include "cloud/api/endpoint_filter.h"
#include "cloud/api/valid_text.h"
#include "net/workers.h"

// g++ 12 at -O1 takes a coroutine frame's own operator delete for a stranger's.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace neutrino::cloud {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using store::Transaction;

constexpr milliseconds kLook{200};  // between two looks at a log that is followed

Collection<Replica> replica_collection(const Tables& tables) {
  return {.path = "/api/v1/replicas",
          .item_path = "/api/v1/replicas/{id}",
          .noun = "replica",
          .rows = tables.replicas,
          .verbs = kReadOnly};
}

// ---- logs

struct LogQuery {
  int64_t cursor = 0, bytes = 0, wait_ms = 0;
};

LogQuery log_query(const Query& query) {
  constexpr int64_t kFar = limits::kAmountMax;
  allow_only(query, {"cursor", "bytes", "wait_ms"});
  return {.cursor = query_integer(query, "cursor", 0, -kFar, kFar),
          .bytes = query_integer(query, "bytes", 64 << 10, 1, limits::kLogChunkBytes),
          .wait_ms = query_integer(query, "wait_ms", 0, 0, limits::kApiWaitMilliseconds)};
}

json::object log_object(LogChunk chunk) {
  const size_t whole = whole_characters(chunk.text);  // what is cut off comes with the next chunk
  chunk.next -= static_cast<int64_t>(chunk.text.size() - whole);
  chunk.text.resize(whole);
  return {{"text", valid_text(chunk.text)}, {"next", chunk.next}, {"lost_bytes", chunk.lost_bytes}};
}

void check_is_there(const ApiServices& services, ApiCall& call) {
  services.database.read(
      [&](Transaction& transaction) { find_row(replica_collection(services.tables), call, transaction); });
}

// Blocks no thread while nothing comes: it looks now and then.
asio::awaitable<void> send_log(const ApiServices& services, ApiCall& call, net::Response& response) {
  const LogQuery query = log_query(call.query);
  const auto end = steady_clock::now() + milliseconds(query.wait_ms);
  LogChunk chunk;
  const std::function<void()> look = [&] {
    call.check_caller();
    check_is_there(services, call);
    chunk = services.read_log(std::string(call.id()), query.cursor, query.bytes);
  };
  co_await call.workers->run(look);
  while (chunk.text.empty() && response.interruption() == net::Interruption::none &&
         steady_clock::now() < end) {
    co_await response.signal().wait(kLook);
    co_await call.workers->run(look);
  }
  response.set_header("Cache-Control", "no-store");
  response.send(200, to_text(log_object(std::move(chunk))));
}

constexpr std::string_view kLogParameters = R"([
  {"name": "cursor", "in": "query", "description": "a position in bytes, `next` of the answer before; negative: from the end",
   "schema": {"type": "integer", "default": 0}},
  {"name": "bytes", "in": "query", "description": "at most so many", "schema": {"type": "integer", "default": 65536}},
  {"name": "wait_ms", "in": "query", "description": "for something to be there", "schema": {"type": "integer", "default": 0}}])";

constexpr std::string_view kLogAnswer =
    R"({"type": "object", "required": ["text", "next", "lost_bytes"], "properties": {
  "text": {"type": "string"}, "next": {"type": "integer"},
  "lost_bytes": {"type": "integer", "description": "between the cursor and the text: rotated away"}}})";

ApiRoute log_route(const ApiServices& services) {
  return {.spec = {.method = net::Method::get,
                   .path = "/api/v1/replicas/{id}/log",
                   .query = kLogParameters,
                   .summary = "what a replica wrote",
                   .answer_schema = kLogAnswer},
          .needs = Needs::viewer,
          .raw = [&services](ApiCall& call, net::Response& response) {
            return send_log(services, call, response);
          }};
}

}  // namespace

std::vector<ApiRoute> replica_api(const ApiServices& services) {
  std::vector<ApiRoute> routes = collection_routes(replica_collection(services.tables));
  take_endpoint_names(services.tables, routes.front());
  routes.push_back(log_route(services));
  return routes;
}

}  // namespace neutrino::cloud
