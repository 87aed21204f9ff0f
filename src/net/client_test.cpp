// The client against a server that says exactly what the test wants, and against our own.
#include "net/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <atomic>
#include <thread>

#include "net/testing/raw_server.h"

namespace neutrino::net {
namespace {

using testing::closed_port;
using testing::RawPeer;
using testing::RawServer;

constexpr std::string_view kHello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Name: a\r\n\r\nhello";

struct Outcome {
  ClientFault fault = ClientFault::none;
  int status = 0;
  std::string body;
  bool done = false, sent = false, begun = false, repeat = false, repeat_idempotent = false;
};

asio::awaitable<void> exchange(HttpClient& client, int port, ClientRequest request, ClientTimeouts timeouts,
                               Outcome& outcome) {
  ClientExchange exchange(client, {"127.0.0.1", port}, timeouts);
  co_await exchange.send(request);
  for (bool more = exchange.fault() == ClientFault::none; more;) {
    const std::string_view piece = co_await exchange.read();
    outcome.body += piece;
    more = !piece.empty();
  }
  outcome = {.fault = exchange.fault(),
             .status = exchange.status(),
             .body = outcome.body,
             .done = exchange.done(),
             .sent = exchange.request_sent(),
             .begun = exchange.answer_begun(),
             .repeat = exchange.may_repeat(false),
             .repeat_idempotent = exchange.may_repeat(true)};
}

class ClientTest : public ::testing::Test {
 protected:
  Outcome ask(int port, ClientRequest request = {}, ClientTimeouts timeouts = {}) {
    Outcome outcome;
    asio::co_spawn(io, exchange(client, port, std::move(request), timeouts, outcome),
                   [this](std::exception_ptr thrown) {
                     finished = true;
                     if (thrown) std::rethrow_exception(thrown);
                   });
    finished = false;
    io.restart();
    while (!finished && io.run_one_for(std::chrono::seconds(20))) {
    }
    EXPECT_TRUE(finished);
    return outcome;
  }
  asio::io_context io{1};
  HttpClient client{io.get_executor(), {.idle_per_address = 2, .tick = milliseconds(10)}};
  bool finished = false;
};

TEST_F(ClientTest, BodiesOfEveryFraming) {
  struct Case {
    std::string_view answer, body;
    ClientFault fault;
  };
  for (const Case& row : std::initializer_list<Case>{
           {kHello, "hello", ClientFault::none},
           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "hello",
            ClientFault::none},
           {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi",
            ClientFault::none},
           {"HTTP/1.0 200 OK\r\n\r\nto the end", "to the end", ClientFault::none},
           {"HTTP/1.1 204 No Content\r\n\r\n", "", ClientFault::none},
           {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "hello", ClientFault::closed},
           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "hello",
            ClientFault::closed},
           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "", ClientFault::malformed},
           {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "",
            ClientFault::malformed},
           {"SSH-2.0-server\r\n", "", ClientFault::malformed},
           {"HTTP/1.1 20", "", ClientFault::closed},
           {"", "", ClientFault::closed},
       }) {
    RawServer server([&](RawPeer& peer) {
      peer.read_until("\r\n\r\n");
      peer.send(row.answer);
    });
    const Outcome outcome = ask(server.port());
    EXPECT_EQ(outcome.fault, row.fault) << row.answer << client_fault_name(outcome.fault);
    EXPECT_EQ(outcome.body, row.body) << row.answer;
    EXPECT_EQ(outcome.done, row.fault == ClientFault::none) << row.answer;
    EXPECT_EQ(outcome.begun, !row.answer.empty()) << row.answer;
    EXPECT_EQ(outcome.repeat_idempotent, row.answer.empty()) << row.answer;
    EXPECT_FALSE(outcome.repeat) << row.answer;  // it was sent
  }
}

TEST_F(ClientTest, EndlessHeaderIsRefused) {
  RawServer server([](RawPeer& peer) {
    peer.read_until("\r\n\r\n");
    peer.send("HTTP/1.1 200 OK\r\n");
    while (peer.send("X-More: " + std::string(1000, 'x') + "\r\n")) {
    }
  });
  EXPECT_EQ(ask(server.port()).fault, ClientFault::malformed);
}

TEST_F(ClientTest, ConnectionsAreKeptAndAStaleOneIsNotUsed) {
  RawServer server([count = 0](RawPeer& peer) mutable {
    const int requests = ++count == 1 ? 2 : 1;  // the first connection is closed after two
    for (int i = 0; i < requests; ++i) {
      peer.seen().clear();
      if (!peer.read_until("\r\n\r\n")) return;
      peer.send(kHello);
    }
  });
  EXPECT_EQ(ask(server.port()).body, "hello");
  EXPECT_EQ(client.idle_connections(), 1);
  EXPECT_EQ(ask(server.port()).body, "hello");
  EXPECT_EQ(client.connections_opened(), 1);
  std::this_thread::sleep_for(milliseconds(50));  // the server's FIN arrives
  EXPECT_EQ(ask(server.port()).body, "hello");
  EXPECT_EQ(client.connections_opened(), 2);
  client.forget({"127.0.0.1", server.port()});
  EXPECT_EQ(client.idle_connections(), 0);
}

TEST_F(ClientTest, WhatComesUnaskedEndsTheConnection) {
  RawServer server([](RawPeer& peer) {
    peer.read_until("\r\n\r\n");
    peer.send(std::string(kHello) + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    peer.read_until("never");
  });
  EXPECT_EQ(ask(server.port()).body, "hello");
  EXPECT_EQ(client.idle_connections(), 0);
}

TEST_F(ClientTest, NobodyListens) {
  const Outcome outcome = ask(closed_port());
  EXPECT_EQ(outcome.fault, ClientFault::refused);
  EXPECT_TRUE(outcome.repeat);  // nothing was sent
  EXPECT_EQ(ask(0).fault, ClientFault::refused);
}

TEST_F(ClientTest, TimeoutsBeforeAndWithinAnAnswer) {
  for (const std::string_view answer : {"", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell"}) {
    RawServer server([&](RawPeer& peer) {
      peer.read_until("\r\n\r\n");
      peer.send(answer);
      peer.read_until("never");
    });
    const auto short_time = milliseconds(50);
    const Outcome outcome =
        ask(server.port(), {},
            {.first_byte = answer.empty() ? short_time : milliseconds(9000), .idle = short_time});
    EXPECT_EQ(outcome.fault, ClientFault::timeout);
    EXPECT_EQ(outcome.begun, !answer.empty());
  }
}

TEST_F(ClientTest, LargeAndStreamedRequestBodies) {
  const std::string large(3 << 20, 'x');
  std::string got;
  RawServer server([&](RawPeer& peer) {
    peer.read_until("\r\n\r\n");
    const bool chunked = peer.seen().find("Transfer-Encoding: chunked") != std::string::npos;
    if (chunked)
      peer.read_until("0\r\n\r\n");
    else
      peer.read_size(peer.seen().find("\r\n\r\n") + 4 + large.size());
    got = peer.seen();
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
  });
  EXPECT_EQ(ask(server.port(), {.method = "POST", .body = large}).body, "hello");
  EXPECT_TRUE(got.ends_with(large));
  int left = 3;
  EXPECT_EQ(ask(server.port(), {.method = "POST",
                                .body_stream = [&]() -> asio::awaitable<std::string_view> {
                                  co_return left-- > 0 ? "piece" : "";
                                }})
                .body,
            "hello");
  EXPECT_THAT(got, ::testing::EndsWith("5\r\npiece\r\n5\r\npiece\r\n5\r\npiece\r\n0\r\n\r\n"));
}

TEST_F(ClientTest, AnAnswerThatComesBeforeTheWholeRequestIsHeard) {
  RawServer server([](RawPeer& peer) {
    peer.read_until("\r\n\r\n");
    peer.send("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    peer.read_size(8 << 20);
  });
  const std::string large(8 << 20, 'x');
  EXPECT_EQ(ask(server.port(), {.method = "POST", .body = large}).status, 413);
}

TEST_F(ClientTest, ASlowReaderSlowsTheServerDown) {
  std::atomic<int64_t> taken{0};
  RawServer server([&](RawPeer& peer) {
    peer.read_until("\r\n\r\n");
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n");
    const std::string megabyte(1 << 20, 'x');
    for (int i = 0; i < 64 && peer.send(megabyte); ++i) ++taken;
  });
  bool checked = false;
  asio::co_spawn(
      io,
      [&]() -> asio::awaitable<void> {
        ClientExchange exchange(client, {"127.0.0.1", server.port()});
        co_await exchange.send({});
        asio::steady_timer pause(io, milliseconds(200));
        co_await pause.async_wait(asio::use_awaitable);
        EXPECT_LT(taken, 32);  // what the kernel's buffers hold, and not the whole
        int64_t size = 0;
        for (std::string_view piece = co_await exchange.read(); !piece.empty();
             piece = co_await exchange.read())
          size += static_cast<int64_t>(piece.size());
        EXPECT_EQ(size, 64 << 20);
        checked = true;
      },
      asio::detached);
  while (!checked && io.run_one_for(std::chrono::seconds(20))) {
  }
  EXPECT_TRUE(checked);
}

TEST_F(ClientTest, CancelEndsSendAndRead) {
  for (const std::string_view answer : {"", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"}) {
    RawServer server([&](RawPeer& peer) {
      peer.read_until("\r\n\r\n");
      peer.send(answer);
      peer.read_until("never");  // returns when the client is gone
    });
    bool checked = false;
    asio::co_spawn(
        io,
        [&]() -> asio::awaitable<void> {
          ClientExchange exchange(client, {"127.0.0.1", server.port()});
          asio::steady_timer timer(io);
          const auto cancel_soon = [&] {
            timer.expires_after(milliseconds(50));
            timer.async_wait([&](auto) { exchange.cancel(); });
          };
          if (answer.empty()) cancel_soon();
          const ClientFault fault = co_await exchange.send({});
          EXPECT_EQ(fault == ClientFault::none, !answer.empty());
          if (!answer.empty()) cancel_soon();
          co_await exchange.read();
          EXPECT_EQ(exchange.fault(), ClientFault::cancelled);
          checked = true;
        },
        asio::detached);
    while (!checked && io.run_one_for(std::chrono::seconds(20))) {
    }
    EXPECT_TRUE(checked);
  }
}

}  // namespace
}  // namespace neutrino::net
