// How an answer gets to its client: what is held back goes out with what follows, and who leaves is noticed.
#include <gtest/gtest.h>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <atomic>
#include <thread>

#include "base/error.h"
#include "net/read_buffer.h"
#include "net/server.h"
#include "net/testing/raw_client.h"

namespace neutrino::net {
namespace {

using testing::get;
using testing::RawClient;
using testing::Reply;

class OneRoute {
 public:
  explicit OneRoute(Handler handler) : server_({.tick = milliseconds(10)}) {
    server_.set_routes(
        {{{.method = Method::get, .path = "/", .auth = AuthPolicy::open}, std::move(handler)}});
    server_.listen();
    thread_ = std::thread([this] { server_.run(); });
  }
  ~OneRoute() {
    server_.stop();
    thread_.join();
  }
  int port() const { return server_.port(); }

 private:
  HttpServer server_;
  std::thread thread_;
};

// Events: a head, a pause that the client ends by looking, a piece, the end.
asio::awaitable<void> answer(Response& response, bool holds, const std::atomic<bool>& go) {
  if (holds) response.hold_next();
  co_await response.begin_stream("text/event-stream");
  while (!go) co_await response.signal().wait(milliseconds(5));
  if (holds) response.hold_next();
  co_await response.write("data: 1\n\n");
}

TEST(HeldBack, GoesOutWithWhatFollows) {
  for (const bool holds : {false, true}) {
    std::atomic<bool> go{false};
    OneRoute server([&](const Request&, Response& response) { return answer(response, holds, go); });
    RawClient client(server.port(), milliseconds(300));
    client.send(get("/"));
    EXPECT_EQ(client.read_until("HTTP/1.1 200"), !holds);
    go = true;
    const Reply reply = client.read_reply();
    EXPECT_EQ(reply.body, "data: 1\n\n");
    EXPECT_TRUE(reply.complete);
  }
}

TEST(HeldBack, GoesOutWithAnErrorToo) {
  OneRoute server([](const Request&, Response& response) -> asio::awaitable<void> {
    response.hold_next();
    co_await response.begin_stream("text/event-stream");
    response.hold_next();
    co_await response.write("data: 1\n\n");
    throw Error(ErrorCode::unavailable, "cut").with_reason("replica_failed");
  });
  RawClient client(server.port());
  client.send(get("/"));
  const Reply reply = client.read_reply();
  EXPECT_EQ(reply.status, 200);
  EXPECT_TRUE(reply.body.starts_with("data: 1\n\n")) << reply.body;
  EXPECT_NE(reply.body.find("replica_failed"), std::string::npos) << reply.body;
}

// It waits for something else than the response's signal, as a gateway does for its replica.
TEST(Leaving, IsNoticedThoughTheHandlerDoesNotLook) {
  std::atomic<bool> waits{false}, told{false};
  asio::steady_timer* timer = nullptr;
  OneRoute server([&](const Request&, Response& response) -> asio::awaitable<void> {
    asio::steady_timer until(co_await asio::this_coro::executor, std::chrono::seconds(20));
    timer = &until;
    response.on_interruption = [&] {
      told = true;
      timer->cancel();
    };
    waits = true;
    try {
      co_await until.async_wait(asio::use_awaitable);
    } catch (const boost::system::system_error&) {
    }
    response.on_interruption = nullptr;
    response.send(200, "{}");
  });
  const auto until = [](const std::atomic<bool>& what) {
    for (int i = 0; i < 5000 && !what; ++i) std::this_thread::sleep_for(milliseconds(2));
    return what.load();
  };
  RawClient client(server.port());
  client.send(get("/"));
  ASSERT_TRUE(until(waits));
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_FALSE(told);
  client.close();
  EXPECT_TRUE(until(told));
}

TEST(ReadBuffer, KeepsWhatIsUnreadInOrder) {
  ReadBuffer buffer;
  std::string sent, read;
  for (int i = 0; i < 2000; ++i) {
    const std::string piece(static_cast<size_t>(i * 7919 % 300), static_cast<char>('a' + i % 26));
    std::copy(piece.begin(), piece.end(), buffer.room(300));
    buffer.received(piece.size());
    sent += piece;
    const std::string_view unread = buffer.unread();
    const size_t taken = i == 1999 ? unread.size() : std::min<size_t>(unread.size(), i * 104729 % 400);
    read += unread.substr(0, taken);
    buffer.consume(taken);
  }
  EXPECT_EQ(read, sent);
  EXPECT_TRUE(buffer.unread().empty());
}

}  // namespace
}  // namespace neutrino::net
