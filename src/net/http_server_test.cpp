// The HTTP server on a real socket, with a few plain routes: what it refuses, how long it waits, how it ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "net/server.h"
#include "net/sse.h"
#include "net/testing/raw_client.h"

namespace neutrino::net {
namespace {

using std::chrono::steady_clock;
using testing::ask;
using testing::get;
using testing::post;
using testing::RawClient;
using testing::Reply;

constexpr auto kAnyField = std::to_array<Field>({{.name = "x"}});

// GET /hello, POST /echo (1000 bytes), GET /wait (until interrupted), GET /flood (events without end), GET /bug.
class TestServer {
 public:
  explicit TestServer(ServerOptions options = {}) : server_(prepare(std::move(options))) {
    spdlog::set_level(spdlog::level::off);
    server_.set_routes({
        {{.method = Method::get, .path = "/hello", .auth = AuthPolicy::inference},
         [](const Request&, Response& r) { return hello(r); }},
        {{.method = Method::get, .path = "/open", .auth = AuthPolicy::open},
         [](const Request&, Response& r) { return hello(r); }},
        {{.method = Method::post,
          .path = "/echo",
          .auth = AuthPolicy::inference,
          .admission = Admission::while_serving,
          .body_bytes = 1000,
          .fields = kAnyField},
         [](const Request& q, Response& r) { return echo(q, r); }},
        {{.method = Method::post,
          .path = "/big",
          .auth = AuthPolicy::inference,
          .body_bytes = 8 << 20,
          .fields = kAnyField},
         [](const Request& q, Response& r) { return size_of_body(q, r); }},
        {{.method = Method::get,
          .path = "/wait",
          .auth = AuthPolicy::inference,
          .admission = Admission::while_serving},
         [this](const Request&, Response& r) { return wait(r); }},
        {{.method = Method::get, .path = "/flood", .auth = AuthPolicy::inference},
         [this](const Request&, Response& r) { return flood(r); }},
        {{.method = Method::get, .path = "/metrics", .auth = AuthPolicy::metrics},
         [](const Request&, Response& r) { return hello(r); }},
        {{.method = Method::get, .path = "/admin", .auth = AuthPolicy::admin},
         [](const Request&, Response& r) { return hello(r); }},
        {{.method = Method::post,
          .path = "/any",
          .auth = AuthPolicy::open,
          .body_bytes = 1000,
          .any_content = true},
         [](const Request& q, Response& r) { return partial(q, r); },
         [](Request& q, Response&) {
           if (q.header("x-no") == "1") throw Error(ErrorCode::permission_denied, "no");
         }},
        {{.method = Method::get, .path = "/bug", .auth = AuthPolicy::inference},
         [](const Request&, Response&) { return bug(); }},
    });
    server_.listen();
    thread_ = std::thread([this] { server_.run(); });
  }
  ~TestServer() {
    server_.stop();
    thread_.join();
  }

  HttpServer& server() { return server_; }
  int port() const { return server_.port(); }
  int completions(int status) {
    const std::lock_guard lock(mutex_);
    return static_cast<int>(std::count_if(completed_.begin(), completed_.end(),
                                          [&](const Completion& c) { return c.status == status; }));
  }
  std::atomic<bool> stream_waits{false};
  std::atomic<int> waiting{0}, gone{0}, shut_down{0};

 private:
  ServerOptions prepare(ServerOptions options) {
    options.port = 0;
    options.tick = milliseconds(10);
    options.on_complete = [this](const Request&, const Completion& completion) {
      const std::lock_guard lock(mutex_);
      completed_.push_back(completion);
    };
    return options;
  }
  static asio::awaitable<void> hello(Response& response) {
    response.send(200, R"({"hello":1})");
    co_return;
  }
  static asio::awaitable<void> echo(const Request& request, Response& response) {
    response.send(200, request.body);
    co_return;
  }
  static asio::awaitable<void> size_of_body(const Request& request, Response& response) {
    response.send(200, std::to_string(request.body.size()));
    co_return;
  }
  asio::awaitable<void> wait(Response& response) {
    if (stream_waits) co_await response.begin_stream("text/event-stream");
    ++waiting;
    while (response.interruption() == Interruption::none)
      co_await response.signal().wait(milliseconds(10000));
    if (response.interruption() == Interruption::client_gone)
      ++gone;
    else if (response.interruption() == Interruption::shutdown)
      ++shut_down;
    --waiting;
    if (response.interruption() == Interruption::shutdown)
      throw Error(ErrorCode::unavailable, "shut down").with_reason("draining");
  }
  asio::awaitable<void> flood(Response& response) {
    EventStream events(response, milliseconds(1000));
    co_await events.begin();
    const std::string piece(60000, 'x');
    while (co_await events.event(piece)) {
    }
    ++gone;
  }
  static asio::awaitable<void> partial(const Request& request, Response& response) {
    response.set_stream_status(206);
    co_await response.begin_stream("text/plain");
    co_await response.write(request.body);
    if (request.body == "bad") throw Error(ErrorCode::unavailable, "cut");
  }
  static asio::awaitable<void> bug() {
    throw std::runtime_error("a bug with /secret/path");
    co_return;
  }

  HttpServer server_;
  std::thread thread_;
  std::mutex mutex_;
  std::vector<Completion> completed_;
};

bool eventually(const std::function<bool()>& condition) {
  const auto end = steady_clock::now() + std::chrono::seconds(10);
  while (!condition() && steady_clock::now() < end) std::this_thread::sleep_for(milliseconds(2));
  return condition();
}

TEST(HttpServer, AnswersAndKeepsTheConnection) {
  TestServer server;
  RawClient client(server.port());
  for (int i = 0; i < 3; ++i) {
    client.send(get("/hello"));
    const Reply reply = client.read_reply();
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.body, R"({"hello":1})");
    EXPECT_EQ(reply.headers.at("connection"), "keep-alive");
    EXPECT_TRUE(reply.headers.contains("date"));
  }
}

TEST(HttpServer, PipelinedRequestsAreAnsweredInOrder) {
  TestServer server;
  RawClient client(server.port());
  std::string all;
  for (int i = 0; i < 50; ++i) all += post("/echo", fmt::format("{{\"i\":{}}}", i));
  client.send(all);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(client.read_reply().body, fmt::format("{{\"i\":{}}}", i));
}

TEST(HttpServer, ARouteMayRefuseBeforeTheBodyAndTakeAnyContent) {
  TestServer server;
  const auto request = [](std::string_view body, std::string_view more) {
    return fmt::format("POST /any HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{}\r\n{}", body.size(),
                       more, body);
  };
  const Reply taken = ask(server.port(), request("hello", "Content-Type: text/plain\r\n"));
  EXPECT_EQ(taken.status, 206);
  EXPECT_EQ(taken.body, "hello");
  EXPECT_TRUE(taken.complete);
  RawClient client(server.port());
  client.send(
      "POST /any HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\nX-No: 1\r\n\r\n");  // and no body
  EXPECT_EQ(client.read_reply().status, 403);
  const Reply cut = ask(server.port(), request("bad", ""));  // no proper end: nobody takes it for whole
  EXPECT_EQ(cut.body, "bad");
  EXPECT_FALSE(cut.complete);
}

TEST(HttpServer, HeadOptionsAndMethods) {
  TestServer server;
  const Reply head = ask(server.port(), "HEAD /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-length"), "11");
  const Reply options = ask(server.port(), "OPTIONS /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(options.status, 204);
  EXPECT_EQ(options.headers.at("allow"), "GET, HEAD, OPTIONS");
  const Reply wrong = ask(server.port(), "DELETE /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "GET, HEAD, OPTIONS");
  EXPECT_EQ(ask(server.port(), get("/nothing")).status, 404);
  EXPECT_EQ(ask(server.port(), "BREW /hello HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 405);
}

TEST(HttpServer, RefusesSmuggledAndMalformedRequests) {
  TestServer server;
  const std::string head = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
  const std::string chunk_head = head + "Transfer-Encoding: chunked\r\n\r\n";
  using namespace std::string_literals;
  const std::string hostile[] = {
      head + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
      head + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
      head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
      head + "Content-Length: +2\r\n\r\n{}",
      head + "Content-Length: 2 2\r\n\r\n{}",
      head + "Content-Length : 2\r\n\r\n{}",
      head + "Content-Length: 0x2\r\n\r\n{}",
      head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
      head + "Transfer-Encoding: identity\r\n\r\n{}",
      head + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
      head + "Transfer-Encoding:\x0b"s + "chunked\r\n\r\n0\r\n\r\n",
      head + "Transfer-Encoding: chunked\r\n folded\r\n\r\n0\r\n\r\n",
      head + "X: a\nContent-Length: 2\r\n\r\n{}",
      head + "X: a\rContent-Length: 2\r\n\r\n{}",
      head + "X: a\0b\r\nContent-Length: 2\r\n\r\n{}"s,
      head + "Host: other\r\nContent-Length: 2\r\n\r\n{}",
      chunk_head + "-2\r\n{}\r\n0\r\n\r\n",
      chunk_head + "+2\r\n{}\r\n0\r\n\r\n",
      chunk_head + " 2\r\n{}\r\n0\r\n\r\n",
      chunk_head + "0x2\r\n{}\r\n0\r\n\r\n",
      chunk_head + "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
      chunk_head + "2\r\n{}X\r\n0\r\n\r\n",
      chunk_head + "g\r\n{}\r\n0\r\n\r\n",
      "GET /hello HTTP/1.1\r\n\r\n",
      "GET /hello HTTP/2.0\r\nHost: localhost\r\n\r\n",
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
      "GET hello HTTP/1.1\r\nHost: localhost\r\n\r\n",
      "GET  /hello HTTP/1.1\r\nHost: localhost\r\n\r\n",
      "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"s + std::string(64, '\r'),
  };
  for (const std::string& request : hostile) {
    RawClient client(server.port());
    client.send(request + get("/hello"));  // must not be taken for a second request
    const Reply reply = client.read_reply();
    EXPECT_EQ(reply.status, 400) << request;
    EXPECT_TRUE(client.closed_by_peer()) << request;
    EXPECT_EQ(client.seen().find("HTTP/1.1 200"), std::string::npos) << request;
  }
  EXPECT_EQ(ask(server.port(), get("/hello")).status, 200);
}

TEST(HttpServer, ChunkedBodiesAreDecodedAndLimited) {
  TestServer server;
  const std::string head =
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: "
      "chunked\r\n\r\n";
  EXPECT_EQ(ask(server.port(), head + "2\r\n{}\r\n3;ext=1\r\nabc\r\n0\r\nTrailer: x\r\n\r\n").body, "{}abc");
  std::string exact = head, over = head;
  for (int i = 0; i < 1000; ++i) exact += "1\r\na\r\n";
  for (int i = 0; i < 1001; ++i) over += "1\r\na\r\n";
  EXPECT_EQ(ask(server.port(), exact + "0\r\n\r\n").body.size(), 1000U);
  EXPECT_EQ(ask(server.port(), over + "0\r\n\r\n").status, 413);
}

TEST(HttpServer, MillionsOfTinyChunksCostNoStack) {
  TestServer server;
  std::string request =
      "POST /big HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: "
      "chunked\r\n\r\n";
  for (int i = 0; i < 1'000'000; ++i) request += "1\r\na\r\n";
  EXPECT_EQ(ask(server.port(), request + "0\r\n\r\n").body, "1000000");
}

TEST(HttpServer, LimitsOfHeaderAndBody) {
  TestServer server;
  const int port = server.port();
  EXPECT_EQ(ask(port, get("/hello", "X: " + std::string(60000, 'a') + "\r\n")).status, 200);
  EXPECT_EQ(ask(port, get("/hello", "X: " + std::string(1 << 20, 'a') + "\r\n")).status, 431);
  EXPECT_EQ(ask(port, "GET /" + std::string(1 << 20, 'a') + " HTTP/1.1\r\nHost: localhost\r\n\r\n").status,
            431);
  std::string many;
  for (int i = 0; i < 101; ++i) many += "A: b\r\n";
  EXPECT_EQ(ask(port, get("/hello", many)).status, 431);
  many.clear();
  for (int i = 0; i < 100'000; ++i) many += "A: b\r\n";
  EXPECT_EQ(ask(port, get("/hello", many)).status, 431);
  std::string empty_lines;
  for (int i = 0; i < 1'000'000; ++i) empty_lines += "\r\n";
  EXPECT_EQ(ask(port, empty_lines).status, 400);
  EXPECT_EQ(ask(port, post("/echo", std::string(1000, 'a'))).status, 200);
  EXPECT_EQ(ask(port, post("/echo", std::string(1001, 'a'))).status, 413);
  EXPECT_EQ(ask(port, post("/echo", std::string(3 << 20, 'a'))).status, 413);
  EXPECT_EQ(ask(port, post("/hello", "{}")).status, 405);
  EXPECT_EQ(ask(port, "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}").status, 415);
  EXPECT_EQ(
      ask(port,
          "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/json\r\nContent-Length: 2\r\n\r\n{}")
          .status,
      415);
  EXPECT_EQ(ask(port,
                "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: Application/JSON ; "
                "charset=utf-8\r\nContent-Length: 2\r\n\r\n{}")
                .status,
            200);
}

TEST(HttpServer, ExpectContinueIsAnsweredBeforeTheBody) {
  TestServer server;
  RawClient client(server.port());
  client.send(
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: "
      "100-continue\r\nContent-Length: 2\r\n\r\n");
  ASSERT_TRUE(client.read_until("HTTP/1.1 100 Continue\r\n\r\n"));
  client.send("{}");
  EXPECT_EQ(client.read_reply().body, "{}");
  EXPECT_EQ(ask(server.port(),
                "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: "
                "100-continue\r\nContent-Length: 2000\r\n\r\n")
                .status,
            413);
}

TEST(HttpServer, Http10GetsPlainAnswers) {
  TestServer server;
  RawClient client(server.port());
  client.send("GET /hello HTTP/1.0\r\n\r\n");
  EXPECT_EQ(client.read_reply().body, R"({"hello":1})");
  EXPECT_TRUE(client.closed_by_peer());
}

TEST(HttpServer, HostAndOriginAreChecked) {
  TestServer server;
  const int port = server.port();
  for (const std::string_view method : {"GET", "POST", "DELETE", "OPTIONS", "HEAD"}) {
    const bool head = method == "HEAD";
    const auto send = [&](std::string_view target, std::string_view headers) {
      RawClient client(port);
      client.send(fmt::format("{} {} HTTP/1.1\r\n{}\r\n", method, target, headers));
      return client.read_reply(head).status;
    };
    EXPECT_EQ(send("/hello", "Host: rebound.example\r\n"), 421) << method;
    EXPECT_EQ(send("http://rebound.example/hello", "Host: localhost\r\n"), 421) << method;
    EXPECT_EQ(send("/hello", "Host: localhost\r\nOrigin: http://evil.example\r\n"), 403) << method;
    EXPECT_EQ(send("/hello", "Host: localhost\r\nOrigin: null\r\n"), 403) << method;
  }
  EXPECT_EQ(
      ask(port, get("/hello",
                    fmt::format("Origin: http://localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")))
          .status,
      200);
}

TEST(HttpServer, EverythingButOpenRoutesNeedsTheKey) {
  ServerOptions options;
  options.keys.add("test", "sesame");
  TestServer server(std::move(options));
  const int port = server.port();
  EXPECT_EQ(ask(port, get("/open")).status, 200);
  for (const std::string_view path : {"/hello", "/nothing", "/%2e%2e/etc/passwd"}) {
    const Reply reply = ask(port, get(path));
    EXPECT_EQ(reply.status, 401) << path;
    EXPECT_EQ(reply.headers.at("www-authenticate"), "Bearer");
  }
  EXPECT_EQ(ask(port, get("/hello", "Authorization: Bearer sesame\r\n")).status, 200);
  EXPECT_EQ(ask(port, get("/hello", "x-api-key: sesame\r\n")).status, 200);
  EXPECT_EQ(ask(port, get("/hello", "Upgrade: websocket\r\nConnection: Upgrade\r\n")).status, 401);
  EXPECT_EQ(ask(port, post("/echo", std::string(2000, 'a'))).status, 401);  // before the body is looked at
}

TEST(HttpServer, AKeyDoesWhatItsScopesSay) {
  ServerOptions options;
  options.keys.add("app", "app-key", Scopes().with(Scope::inference));
  options.keys.add("scraper", "scraper-key", Scopes().with(Scope::metrics));
  options.keys.add("ops", "ops-key", Scopes().with(Scope::admin));
  options.keys.add("all", "all-key");
  TestServer server(std::move(options));
  const auto status = [&](std::string_view path, std::string_view key) {
    const int bearer = ask(server.port(), get(path, fmt::format("Authorization: Bearer {}\r\n", key))).status;
    const Reply other = ask(server.port(), get(path, fmt::format("x-api-key: {}\r\n", key)));
    EXPECT_EQ(other.status, bearer) << path << key;
    if (other.status == 403) {
      const json::value error = parse_json(other.body).at("error");
      EXPECT_EQ(error.at("type"), "permission_error");
      EXPECT_EQ(error.at("code"), "insufficient_scope");
    }
    return bearer;
  };
  const std::pair<std::string_view, std::string_view> scopes[] = {
      {"/hello", "app-key"}, {"/metrics", "scraper-key"}, {"/admin", "ops-key"}};
  for (const auto& [path, right] : scopes) {
    for (const std::string_view key : {"app-key", "scraper-key", "ops-key"})
      EXPECT_EQ(status(path, key), key == right ? 200 : 403) << path << key;
    EXPECT_EQ(status(path, "all-key"), 200);
    EXPECT_EQ(status(path, "wrong"), 401);
    EXPECT_EQ(ask(server.port(), get(path)).status, 401);
  }
  EXPECT_EQ(status("/nothing", "scraper-key"), 404);
}

TEST(HttpServer, OpenMetricsNeedNoKeyAndNothingElseOpens) {
  ServerOptions options;
  options.keys.add("app", "app-key", Scopes().with(Scope::inference));
  options.metrics_open = true;
  TestServer server(std::move(options));
  EXPECT_EQ(ask(server.port(), get("/metrics")).status, 200);
  EXPECT_EQ(ask(server.port(), get("/metrics", "x-api-key: wrong\r\n")).status, 200);
  EXPECT_EQ(ask(server.port(), "OPTIONS /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 204);
  EXPECT_EQ(ask(server.port(), "OPTIONS /hello HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 401);
  for (const std::string_view path : {"/hello", "/admin", "/nothing"})
    EXPECT_EQ(ask(server.port(), get(path)).status, 401);
}

class KeysOnDisk {
 public:
  explicit KeysOnDisk(std::string_view text) { write(text); }
  ~KeysOnDisk() { std::filesystem::remove(path); }
  void write(std::string_view text) const { write_file_atomic(path, text, 0600); }
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / fmt::format("neutrino-server-keys-{}", getpid());
};

ServerOptions options_with(const KeysOnDisk& file, std::atomic<int>& good, std::atomic<int>& bad) {
  ServerOptions options;
  options.key_file = file.path;
  options.on_reload = [&](std::string_view what, bool is_good) {
    EXPECT_EQ(what, "keys");
    ++(is_good ? good : bad);
  };
  return options;
}

TEST(HttpServer, TheKeyFileIsReadAgainWhenItChanges) {
  const KeysOnDisk file("one key-one\ntwo key-two\n");
  std::atomic<int> good{0}, bad{0};
  TestServer server(options_with(file, good, bad));
  const auto status = [&](std::string_view key) {
    return ask(server.port(), get("/hello", fmt::format("x-api-key: {}\r\n", key))).status;
  };
  EXPECT_EQ(status("key-one"), 200);
  EXPECT_EQ(status("key-three"), 401);
  file.write("two key-two\nthree key-three\n");
  EXPECT_TRUE(eventually([&] { return good == 1; }));
  EXPECT_EQ(status("key-one"), 401);
  EXPECT_EQ(status("key-two"), 200);
  EXPECT_EQ(status("key-three"), 200);
  file.write("four\n");  // bad: what was good stays
  EXPECT_TRUE(eventually([&] { return bad == 1; }));
  EXPECT_EQ(status("key-three"), 200);
  server.server().reload();
  EXPECT_TRUE(eventually([&] { return bad == 2; }));
  EXPECT_EQ(ask(server.port(), get("/hello")).status, 401);
}

TEST(HttpServer, ARevokedKeyEndsItsRequests) {
  const KeysOnDisk file("one key-one\ntwo key-two\n");
  std::atomic<int> good{0}, bad{0};
  TestServer server(options_with(file, good, bad));
  RawClient waiting(server.port()), staying(server.port());
  waiting.send(get("/wait", "x-api-key: key-one\r\n"));
  staying.send(get("/wait", "x-api-key: key-two\r\n"));
  ASSERT_TRUE(eventually([&] { return server.waiting == 2; }));
  server.stream_waits = true;
  RawClient streaming(server.port());
  streaming.send(get("/wait", "x-api-key: key-one\r\n"));
  ASSERT_TRUE(eventually([&] { return server.waiting == 3; }));
  file.write("one another-key\ntwo key-two\n");  // the name stays, the key does not
  EXPECT_EQ(waiting.read_reply().status, 401);
  const Reply cut = streaming.read_reply();
  EXPECT_EQ(cut.status, 200);
  EXPECT_THAT(cut.body, ::testing::HasSubstr("the API key was revoked"));
  EXPECT_TRUE(streaming.closed_by_peer());
  EXPECT_EQ(server.waiting, 1);
}

TEST(HttpServer, PagesOfAnAllowedOriginMayAskAndReadAndOthersMayNot) {
  ServerOptions options;
  options.keys.add("app", "app-key");
  options.allowed_origins = {"https://console.example"};
  TestServer server(std::move(options));
  const std::string preflight =
      "OPTIONS /echo HTTP/1.1\r\nHost: localhost\r\nAccess-Control-Request-Method: POST\r\n"
      "Access-Control-Request-Headers: authorization,content-type\r\nOrigin: ";
  const Reply allowed = ask(server.port(), preflight + "https://console.example\r\n\r\n");
  EXPECT_EQ(allowed.status, 204);
  EXPECT_EQ(allowed.headers.at("access-control-allow-origin"), "https://console.example");
  EXPECT_EQ(allowed.headers.at("access-control-allow-methods"), "POST");
  EXPECT_EQ(allowed.headers.at("access-control-allow-headers"), "authorization,content-type");
  EXPECT_EQ(ask(server.port(), preflight + "https://evil.example\r\n\r\n").status, 403);
  EXPECT_EQ(ask(server.port(), preflight + "http://localhost\r\n\r\n").status,
            401);  // a page of ours needs no CORS
  const Reply answer =
      ask(server.port(), get("/hello", "Origin: https://console.example\r\nx-api-key: app-key\r\n"));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.headers.at("access-control-allow-origin"), "https://console.example");
  EXPECT_EQ(answer.headers.at("vary"), "Origin");
  const Reply refused = ask(server.port(), get("/hello", "Origin: https://console.example\r\n"));
  EXPECT_EQ(refused.status, 401);
  EXPECT_TRUE(refused.headers.contains("access-control-allow-origin"));  // or the page could not read why
  EXPECT_FALSE(ask(server.port(), get("/open")).headers.contains("access-control-allow-origin"));
}

ServerOptions rate_limited(KeyLimits limits) {
  ServerOptions options;
  options.keys.add("app", "app-key", kAllScopes, limits);
  options.keys.add("free", "free-key");
  return options;
}

TEST(HttpServer, RequestsBeyondTheLimitOfTheirKeyAre429) {
  TestServer server(rate_limited({.requests_per_minute = 3}));
  const auto echo = [&](std::string_view key) {
    return ask(server.port(), post("/echo", "{}", fmt::format("x-api-key: {}\r\n", key)));
  };
  for (int i = 0; i < 3; ++i) {
    const Reply reply = echo("app-key");
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.headers.at("x-ratelimit-limit-requests"), "3");
    EXPECT_EQ(reply.headers.at("x-ratelimit-remaining-requests"), std::to_string(2 - i));
    EXPECT_FALSE(reply.headers.contains("x-ratelimit-limit-tokens"));
  }
  const Reply refused = echo("app-key");
  EXPECT_EQ(refused.status, 429);
  const json::value error = parse_json(refused.body).at("error");
  EXPECT_EQ(error.at("type"), "rate_limit_error");
  EXPECT_EQ(error.at("code"), "rate_limit_exceeded");
  EXPECT_EQ(refused.headers.at("retry-after"), "20");
  EXPECT_EQ(refused.headers.at("x-should-retry"), "true");
  EXPECT_EQ(refused.headers.at("x-ratelimit-remaining-requests"), "0");
  EXPECT_EQ(ask(server.port(), get("/hello", "x-api-key: app-key\r\n")).status, 200);  // no work: not counted
  for (int i = 0; i < 10; ++i) EXPECT_EQ(echo("free-key").status, 200);
  EXPECT_FALSE(echo("free-key").headers.contains("x-ratelimit-limit-requests"));
  EXPECT_EQ(echo("wrong").status, 401);
}

TEST(HttpServer, WithoutKeysALimitIsForAllTogether) {
  ServerOptions options;
  options.key_limits = {.requests_per_minute = 2};
  TestServer server(std::move(options));
  EXPECT_EQ(ask(server.port(), post("/echo", "{}")).status, 200);
  EXPECT_EQ(ask(server.port(), post("/echo", "{}")).status, 200);
  EXPECT_EQ(ask(server.port(), post("/echo", "{}")).status, 429);
}

TEST(HttpServer, ABadKeyFileKeepsItFromStarting) {
  const KeysOnDisk file("one\n");
  ServerOptions options;
  options.key_file = file.path;
  EXPECT_THROW(HttpServer(std::move(options)), Error);
}

TEST(HttpServer, ABugIsA500WithoutDetails) {
  TestServer server;
  const Reply reply = ask(server.port(), get("/bug", "X-Request-Id: find-me\r\n"));
  EXPECT_EQ(reply.status, 500);
  EXPECT_EQ(reply.body.find("secret"), std::string::npos);
  EXPECT_NE(reply.body.find("find-me"), std::string::npos);
  EXPECT_EQ(ask(server.port(), get("/hello")).status, 200);
}

TEST(SlowClients, AreCutOff) {
  ServerOptions options;
  options.timeouts = {.header = milliseconds(100),
                      .body = milliseconds(150),
                      .idle = milliseconds(120),
                      .write_stall = milliseconds(200)};
  TestServer server(std::move(options));
  RawClient silent(server.port()), half_header(server.port()), half_body(server.port()), idle(server.port());
  half_header.send("GET /hello HTTP/1.1\r\nHost:");
  half_body.send(
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
      "10\r\n\r\n{");
  idle.send(get("/hello"));
  EXPECT_EQ(idle.read_reply().status, 200);
  EXPECT_TRUE(silent.closed_by_peer());
  EXPECT_EQ(half_header.read_reply().status, 408);
  EXPECT_EQ(half_body.read_reply().status, 408);
  EXPECT_TRUE(idle.closed_by_peer());
  EXPECT_TRUE(eventually([&] { return server.server().connections() == 0; }));
}

TEST(SlowClients, AReaderThatStopsLosesItsStream) {
  ServerOptions options;
  options.timeouts.write_stall = milliseconds(150);
  TestServer server(std::move(options));
  RawClient client(server.port());
  client.send(get("/flood"));
  EXPECT_TRUE(eventually([&] { return server.gone == 1; }));
}

TEST(SlowClients, DoNotKeepOthersOut) {
  ServerOptions options;
  options.connections_max = 20;
  TestServer server(std::move(options));
  std::vector<std::unique_ptr<RawClient>> slow;
  for (int i = 0; i < 100; ++i) {
    slow.push_back(std::make_unique<RawClient>(server.port()));
    slow.back()->send("GET /hello HTTP/1.1\r\n");
  }
  for (int i = 0; i < 20; ++i) EXPECT_EQ(ask(server.port(), get("/hello")).status, 200);
  EXPECT_LE(server.server().connections(), 40);
}

TEST(Disconnects, AreNoticedWhileTheHandlerWaits) {
  TestServer server;
  enum class Way { close, reset, close_after_pipelining, flood };
  int expected = 0;
  for (const Way way : {Way::close, Way::reset, Way::close_after_pipelining, Way::flood}) {
    RawClient client(server.port());
    client.send(get("/wait"));
    ASSERT_TRUE(eventually([&] { return server.waiting == 1; }));
    if (way == Way::close_after_pipelining) client.send(std::string(200'000, 'x'));
    if (way == Way::flood) client.send(std::string(3 << 20, 'x'));
    if (way == Way::reset)
      client.reset();
    else if (way != Way::flood)
      client.close();
    EXPECT_TRUE(eventually([&] { return server.gone == expected + 1; })) << static_cast<int>(way);
    ++expected;
  }
  EXPECT_TRUE(eventually([&] { return server.completions(499) == expected; }));
}

// The negative control of the test above: who stays is not taken for gone.
TEST(Disconnects, StayingIsNotLeaving) {
  TestServer server;
  RawClient client(server.port());
  client.send(get("/wait") + get("/hello"));
  ASSERT_TRUE(eventually([&] { return server.waiting == 1; }));
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_EQ(server.gone, 0);
  EXPECT_EQ(server.waiting, 1);
}

TEST(Drain, LetsRunningRequestsBeInterruptedOnlyAtTheEnd) {
  TestServer server;
  RawClient running(server.port());
  running.send(get("/wait"));
  ASSERT_TRUE(eventually([&] { return server.waiting == 1; }));
  server.server().drain(milliseconds(400));
  ASSERT_TRUE(eventually([&] { return server.server().draining(); }));
  std::this_thread::sleep_for(milliseconds(50));
  const Reply late = ask(server.port(), post("/echo", "{}"));
  EXPECT_EQ(late.status, 503);
  EXPECT_TRUE(late.headers.contains("retry-after"));
  EXPECT_THAT(late.body, ::testing::HasSubstr("draining"));
  EXPECT_EQ(ask(server.port(), get("/open")).status, 200);
  EXPECT_EQ(server.shut_down, 0);
  EXPECT_EQ(running.read_reply().status, 503);
  EXPECT_EQ(server.shut_down, 1);
}

TEST(Drain, EndsAtOnceWithoutWork) {
  const auto start = steady_clock::now();
  {
    TestServer server;
    RawClient idle(server.port());
    idle.send(get("/hello"));
    idle.read_reply();
    server.server().drain(std::chrono::seconds(30));
    EXPECT_TRUE(idle.closed_by_peer());
  }
  EXPECT_LT(steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(Listen, ABusyPortIsNamed) {
  TestServer server;
  HttpServer second({.port = server.port()});
  try {
    second.listen();
    FAIL() << "two servers on one port";
  } catch (const Error& error) {
    EXPECT_THAT(error.message(), ::testing::HasSubstr(std::to_string(server.port())));
  }
  EXPECT_THROW(HttpServer({.port = 70000}).listen(), Error);
}

}  // namespace
}  // namespace neutrino::net
