// A listening socket that goes before its connections do.
#include <gtest/gtest.h>

#include <thread>

#include "base/error.h"
#include "net/server.h"
#include "net/testing/raw_client.h"

namespace neutrino::net {
namespace {

using testing::get;
using testing::RawClient;

bool can_listen(int port) {
  HttpServer server({.port = port});
  try {
    server.listen();
    return true;
  } catch (const Error&) {
    return false;
  }
}

TEST(StopListening, gives_the_port_to_a_successor_and_leaves_connections_alone) {
  HttpServer server({.port = 0});
  server.listen();
  const int port = server.port();
  std::thread thread([&] { server.run(); });
  RawClient client(port);
  client.send(get("/nothing"));
  EXPECT_EQ(client.read_reply().status, 404);
  EXPECT_FALSE(can_listen(port));
  server.stop_listening();
  bool listens = false;
  for (int i = 0; i < 3000 && !listens; ++i) {
    std::this_thread::sleep_for(milliseconds(10));
    listens = can_listen(port);
  }
  EXPECT_TRUE(listens);
  client.send(get("/nothing"));
  EXPECT_EQ(client.read_reply().status, 404);
  server.stop();
  thread.join();
}

}  // namespace
}  // namespace neutrino::net
