// Signing in through a browser: this process listens on loopback, the browser goes to the provider and comes back with a code.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "base/file.h"

namespace neutrino::cli {

// Waits on 127.0.0.1 for one request with a code and the right `state`; all others get an error page and change nothing.
class CodeListener {
 public:
  CodeListener();  // on a free port; throws Error
  int port() const { return port_; }
  const std::string& state() const { return state_; }  // 128 random bits: another page cannot guess it

  // The code. Throws Error{deadline_exceeded}.
  std::string wait(std::chrono::seconds timeout);

 private:
  FileDescriptor socket_;
  int port_ = 0;
  std::string state_;
};

// Starts the desktop's browser, if there is one; says nothing if there is not.
void open_browser(const std::string& url);

// "code=a%20b&state=c": the value of a name, decoded; empty: it is not there. For tests.
std::string query_value(std::string_view query, std::string_view name);

}  // namespace neutrino::cli
