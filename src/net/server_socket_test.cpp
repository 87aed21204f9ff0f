// A server on a listening socket that another process opened.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "base/error.h"
#include "net/server.h"
#include "net/testing/raw_client.h"

namespace neutrino::net {
namespace {

TEST(ServerSocket, ServesOnASocketThatWasPassedOn) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(fd, 16), 0);
  HttpServer server({.socket = fd});
  server.set_routes({{{.method = Method::get, .path = "/hello", .auth = AuthPolicy::open},
                      [](const Request&, Response& response) -> asio::awaitable<void> {
                        response.send(200, "{}");
                        co_return;
                      }}});
  server.listen();
  std::thread thread([&] { server.run(); });
  EXPECT_EQ(testing::ask(server.port(), testing::get("/hello")).status, 200);
  server.stop();
  thread.join();
}

TEST(ServerSocket, RefusesWhatIsNoSocket) {
  HttpServer server({.socket = ::dup(0)});
  EXPECT_THROW(server.listen(), Error);
}

}  // namespace
}  // namespace neutrino::net
