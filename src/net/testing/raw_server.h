// A server for tests of clients: accepts connections and answers each with exactly the bytes it is told to.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/file.h"

namespace neutrino::net::testing {

// One accepted connection, on the server's thread; blocking.
class RawPeer {
 public:
  explicit RawPeer(int fd) : socket_(fd) {}
  bool read_until(std::string_view text);  // into seen(); false: the client closed
  bool read_size(size_t bytes);            // until seen() has so many
  bool send(std::string_view bytes);
  void reset();  // close with RST
  std::string& seen() { return received_; }

 private:
  bool receive();
  FileDescriptor socket_;
  std::string received_;
};

// Calls `serve` with each connection in turn, on one thread; the connection closes when it returns.
class RawServer {
 public:
  explicit RawServer(std::function<void(RawPeer&)> serve);
  ~RawServer();
  int port() const { return port_; }
  int accepted() const { return accepted_; }
  void stop_listening();  // further connections are refused

 private:
  int port_ = 0;  // before the listener, which sets it
  FileDescriptor listener_;
  std::atomic<int> accepted_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

int closed_port();  // nobody listens there

}  // namespace neutrino::net::testing
