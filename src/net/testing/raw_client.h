// A client for tests that sends exactly the bytes it is told to, and reads with a time limit.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <string>
#include <string_view>

#include "base/file.h"

namespace neutrino::net::testing {

struct Reply {
  int status = 0;                              // 0: no answer came
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // decoded from chunks
  bool complete = false;                       // the body came to its proper end
};

class RawClient {
 public:
  explicit RawClient(int port, std::chrono::milliseconds patience = std::chrono::seconds(10));
  virtual ~RawClient() = default;

  bool send(std::string_view bytes);       // false: the peer closed
  Reply read_reply(bool head = false);     // the next answer; also what came before the peer closed
  bool read_until(std::string_view text);  // into seen(); false: time or connection ended first
  bool closed_by_peer();                   // waits for it
  void close() { socket_ = FileDescriptor(); }
  void reset();  // close with RST
  const std::string& seen() const { return received_; }

 protected:
  // How bytes get over, in place of the plain socket.
  virtual bool has_buffered() { return false; }
  virtual ssize_t read_bytes(char* to, size_t size);    // <= 0: end or error
  virtual ssize_t write_bytes(std::string_view bytes);  // <= 0: error
  int descriptor() const { return socket_.get(); }

 private:
  bool receive();
  FileDescriptor socket_;
  std::chrono::milliseconds patience_;
  std::string received_;
};

// "POST /path HTTP/1.1" with Host, JSON content type and length.
std::string post(std::string_view path, std::string_view body, std::string_view more_headers = "");
std::string get(std::string_view path, std::string_view more_headers = "");

Reply ask(int port, std::string_view request);  // on a connection of its own

}  // namespace neutrino::net::testing
