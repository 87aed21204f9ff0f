#include "store/testing/cutting_proxy.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <string>
#include <vector>

namespace neutrino::store::testing {
namespace {

sockaddr_in loopback(int port) {
  return {.sin_family = AF_INET,
          .sin_port = htons(static_cast<uint16_t>(port)),
          .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

bool is_readable(int fd, int timeout_ms) {
  pollfd waiting{.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&waiting, 1, timeout_ms) > 0;
}

// What is there to read; empty at the end of the connection.
std::string take(int fd) {
  std::string bytes(64 << 10, '\0');
  const ssize_t size = recv(fd, bytes.data(), bytes.size(), 0);
  bytes.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return bytes;
}

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

}  // namespace

CuttingProxy::CuttingProxy(int server_port)
    : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), server_port_(server_port) {
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  check(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0, "a port for the proxy");
  check(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0, "its number");
  check(listen(listener_.get(), 16) == 0, "listen");
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { run(); });
}

CuttingProxy::~CuttingProxy() {
  closing_ = true;
  thread_.join();
}

void CuttingProxy::run() {
  std::vector<std::thread> connections;
  while (!closing_) {
    if (!is_readable(listener_.get(), 10)) continue;
    const int client = accept(listener_.get(), nullptr, nullptr);
    connections.emplace_back([this, client] { serve(client); });
  }
  for (std::thread& connection : connections) connection.join();
}

void CuttingProxy::serve(int client) {
  const FileDescriptor client_end(client), server_end(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = loopback(server_port_);
  if (refuses_ || connect(server_end.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return;
  while (!closing_ && pass_on(client, server_end.get())) {
  }
}

// Passes on what there is; false when the connection is over, or is to be cut.
bool CuttingProxy::pass_on(int client, int server) {
  pollfd both[] = {{.fd = client, .events = POLLIN, .revents = 0},
                   {.fd = server, .events = POLLIN, .revents = 0}};
  if (poll(both, 2, 10) <= 0) return true;
  if (both[1].revents != 0) {
    const std::string bytes = take(server);
    if (bytes.empty() || !send_all(client, bytes)) return false;
  }
  if (both[0].revents == 0) return true;
  const std::string bytes = take(client);
  if (bytes.empty()) return false;
  const bool commits = bytes.find(std::string_view("COMMIT\0", 7)) != std::string::npos;
  const CutAt cut = commits ? cut_.exchange(CutAt::nothing) : CutAt::nothing;
  if (cut != CutAt::nothing) ++cuts_;
  if (cut == CutAt::before_commit) return false;
  if (!send_all(server, bytes)) return false;
  if (cut == CutAt::nothing) return true;
  refuses_ = cut == CutAt::after_commit_for_good;
  take(server);  // the answer
  return false;
}

}  // namespace neutrino::store::testing
