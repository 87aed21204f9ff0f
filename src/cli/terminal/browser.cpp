#include "cli/terminal/browser.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "base/process.h"
#include "base/random.h"

namespace neutrino::cli {
namespace {

using std::chrono::steady_clock;

constexpr size_t kRequestBytes = 16 << 10;
constexpr int kReadMilliseconds = 2000;  // for a browser to say what it wants

bool is_readable(int fd, int64_t wait_ms) {
  pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, static_cast<int>(wait_ms)) > 0;
}

std::string read_head(int client) {
  std::string head;
  char buffer[2048];
  while (head.find("\r\n\r\n") == head.npos && head.size() < kRequestBytes &&
         is_readable(client, kReadMilliseconds)) {
    const ssize_t got = ::recv(client, buffer, sizeof buffer, 0);
    if (got <= 0) break;
    head.append(buffer, static_cast<size_t>(got));
  }
  return head;
}

// "code=..&state=.." of "GET /?code=..&state=.. HTTP/1.1".
std::string_view query_of(std::string_view head) {
  if (!head.starts_with("GET /?")) return {};
  head.remove_prefix(6);
  return head.substr(0, head.find(' '));
}

void answer(int client, std::string_view status, std::string_view text) {
  const std::string body =
      fmt::format("<!doctype html><meta charset=utf-8><title>neutrino</title><p>{}</p>", text);
  const std::string page = fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: "
      "no-store\r\n"
      "Referrer-Policy: no-referrer\r\n\r\n{}",
      status, body.size(), body);
  (void)!::send(client, page.data(), page.size(), MSG_NOSIGNAL);
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

std::string decoded(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_escape =
        text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0;
    result += is_escape        ? static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]))
              : text[i] == '+' ? ' '
                               : text[i];
    if (is_escape) i += 2;
  }
  return result;
}

}  // namespace

std::string query_value(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const std::string_view part = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(part.size() + 1, query.size()));
    const size_t equals = part.find('=');
    if (equals != part.npos && part.substr(0, equals) == name) return decoded(part.substr(equals + 1));
  }
  return "";
}

CodeListener::CodeListener()
    : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
      state_(fmt::format("{:016x}{:016x}", system_entropy(), system_entropy())) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (!socket_ || ::bind(socket_.get(), any, size) != 0 || ::listen(socket_.get(), 8) != 0 ||
      ::getsockname(socket_.get(), any, &size) != 0)
    throw system_error("listen on", "127.0.0.1");
  port_ = ntohs(address.sin_port);
}

std::string CodeListener::wait(std::chrono::seconds timeout) {
  const auto end = steady_clock::now() + timeout;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - steady_clock::now()).count();
    if (left <= 0 || !is_readable(socket_.get(), left))
      throw make_error(ErrorCode::deadline_exceeded, "nobody has signed in within {} s", timeout.count());
    const FileDescriptor client(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client) continue;
    const std::string head = read_head(client.get());
    const std::string code = query_value(query_of(head), "code");
    if (!code.empty() && query_value(query_of(head), "state") == state_)
      return answer(client.get(), "200 OK", "You are signed in. This window may be closed."), code;
    answer(client.get(), "404 Not Found", "This is not the sign-in that the terminal waits for.");
  }
}

void open_browser(const std::string& url) {
  if (!std::getenv("DISPLAY") && !std::getenv("WAYLAND_DISPLAY")) return;
  try {
    spawn({.argv = {"xdg-open", url}, .group = ProcessGroup::session});
  } catch (const Error&) {  // the URL is on the terminal, too
  }
}

}  // namespace neutrino::cli
