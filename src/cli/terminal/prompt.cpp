#include "cli/terminal/prompt.h"

#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <iterator>

#include "base/error.h"

namespace neutrino::cli {
namespace {

// What is typed is not shown while this lives.
class NoEcho {
 public:
  NoEcho() {
    if (::tcgetattr(STDIN_FILENO, &before_) != 0) return;
    termios quiet = before_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    changed_ = ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet) == 0;
  }
  ~NoEcho() {
    if (changed_) ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
  }
  NoEcho(const NoEcho&) = delete;

 private:
  termios before_{};
  bool changed_ = false;
};

std::string type_secret(std::string_view prompt) {
  fmt::print(stderr, "{}: ", prompt);
  std::fflush(stderr);
  std::string line;
  {
    const NoEcho quiet;
    std::getline(std::cin, line);
  }
  fmt::print(stderr, "\n");
  return line;
}

std::string read_all() {
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

}  // namespace

std::string read_secret(std::string_view prompt, size_t bytes_max) {
  std::string secret = ::isatty(STDIN_FILENO) ? type_secret(prompt) : read_all();
  if (secret.empty()) throw make_error(ErrorCode::invalid_argument, "{} is empty", prompt);
  if (secret.size() > bytes_max)
    throw make_error(ErrorCode::invalid_argument, "{} has {} bytes, of at most {}", prompt, secret.size(),
                     bytes_max);
  return secret;
}

}  // namespace neutrino::cli
