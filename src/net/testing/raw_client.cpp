#include "net/testing/raw_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"

namespace neutrino::net::testing {
namespace {

// Takes one chunk off `text`; -1: not all there yet.
int64_t take_chunk(std::string& text, std::string& body) {
  const size_t line = text.find("\r\n");
  if (line == std::string::npos) return -1;
  size_t size = 0;
  std::from_chars(text.data(), text.data() + line, size, 16);
  if (text.size() < line + 2 + size + 2) return -1;
  body.append(text, line + 2, size);
  text.erase(0, line + 2 + size + 2);
  return static_cast<int64_t>(size);
}

void parse_head(std::string_view head, Reply& reply) {
  std::from_chars(head.data() + 9, head.data() + 12, reply.status);
  for (size_t at = head.find("\r\n"); at != std::string_view::npos && at + 2 < head.size();) {
    const size_t end = head.find("\r\n", at + 2);
    const std::string_view line = head.substr(at + 2, end - at - 2);
    const size_t colon = line.find(": ");
    if (colon != std::string_view::npos) {
      std::string name(line.substr(0, colon));
      std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
      reply.headers[name] = line.substr(colon + 2);
    }
    at = end;
  }
}

}  // namespace

RawClient::RawClient(int port, std::chrono::milliseconds patience)
    : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), patience_(patience) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  check(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0,
        "connect to the server under test");
}

bool RawClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = write_bytes(bytes);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

ssize_t RawClient::read_bytes(char* to, size_t size) { return ::recv(socket_.get(), to, size, 0); }

ssize_t RawClient::write_bytes(std::string_view bytes) {
  return ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

bool RawClient::receive() {
  pollfd ready{socket_.get(), POLLIN, 0};
  if (!has_buffered() && ::poll(&ready, 1, static_cast<int>(patience_.count())) <= 0) return false;
  char buffer[65536];
  const ssize_t got = read_bytes(buffer, sizeof buffer);
  if (got <= 0) return false;
  received_.append(buffer, static_cast<size_t>(got));
  return true;
}

bool RawClient::read_until(std::string_view text) {
  while (received_.find(text) == std::string::npos)
    if (!receive()) return false;
  return true;
}

bool RawClient::closed_by_peer() {
  while (receive()) {
  }
  pollfd ready{socket_.get(), POLLIN, 0};
  char byte;
  return ::poll(&ready, 1, 0) > 0 && ::recv(socket_.get(), &byte, 1, MSG_PEEK) <= 0;
}

void RawClient::reset() {
  const linger hard{1, 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  close();
}

Reply RawClient::read_reply(bool head) {
  Reply reply;
  do {
    if (!read_until("\r\n\r\n")) return reply;
    const size_t end = received_.find("\r\n\r\n");
    reply = Reply{};
    parse_head(std::string_view(received_).substr(0, end + 2), reply);
    received_.erase(0, end + 4);
  } while (reply.status == 100);
  if (head || reply.status == 204) {
    reply.complete = true;
  } else if (reply.headers.contains("transfer-encoding")) {
    int64_t chunk = -1;
    while ((chunk = take_chunk(received_, reply.body)) != 0)
      if (chunk < 0 && !receive()) return reply;
    reply.complete = true;
  } else {
    const size_t size =
        reply.headers.contains("content-length") ? std::stoul(reply.headers["content-length"]) : 0;
    while (received_.size() < size)
      if (!receive()) break;
    reply.complete = received_.size() >= size;
    reply.body = received_.substr(0, size);
    received_.erase(0, size);
  }
  return reply;
}

std::string post(std::string_view path, std::string_view body, std::string_view more_headers) {
  return fmt::format(
      "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
      "{}\r\n{}\r\n{}",
      path, body.size(), more_headers, body);
}

std::string get(std::string_view path, std::string_view more_headers) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", path, more_headers);
}

Reply ask(int port, std::string_view request) {
  RawClient client(port);
  client.send(request);
  return client.read_reply(request.starts_with("HEAD "));
}

}  // namespace neutrino::net::testing
