#include "net/testing/raw_server.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/error.h"

namespace neutrino::net::testing {
namespace {

FileDescriptor bound_socket(int& port) {
  FileDescriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  check(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), size) == 0, "bind");
  check(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0, "getsockname");
  port = ntohs(address.sin_port);
  return socket;
}

}  // namespace

bool RawPeer::receive() {
  char buffer[65536];
  const ssize_t got = ::recv(socket_.get(), buffer, sizeof buffer, 0);
  if (got > 0) received_.append(buffer, static_cast<size_t>(got));
  return got > 0;
}

bool RawPeer::read_until(std::string_view text) {
  while (received_.find(text) == std::string::npos)
    if (!receive()) return false;
  return true;
}

bool RawPeer::read_size(size_t bytes) {
  while (received_.size() < bytes)
    if (!receive()) return false;
  return true;
}

bool RawPeer::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

void RawPeer::reset() {
  const linger hard{1, 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  socket_ = FileDescriptor();
}

RawServer::RawServer(std::function<void(RawPeer&)> serve) : listener_(bound_socket(port_)) {
  check(::listen(listener_.get(), 128) == 0, "listen");
  thread_ = std::thread([this, serve = std::move(serve)] {
    while (!stopping_) {
      const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      const timeval patience{10, 0};
      ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
      ++accepted_;
      RawPeer peer(fd);
      serve(peer);
    }
  });
}

void RawServer::stop_listening() {
  stopping_ = true;
  ::shutdown(listener_.get(), SHUT_RDWR);
}

RawServer::~RawServer() {
  stop_listening();
  thread_.join();
}

int closed_port() {
  int port = 0;
  bound_socket(port);
  return port;
}

}  // namespace neutrino::net::testing
