// `replica PORT [JOURNAL]`: the least that can be a replica.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "cloud/testing/programs.h"

namespace neutrino::cloud::testing {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

void note_start(const char* journal) {
  const FileDescriptor fd(::open(journal, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  const std::string id = std::filesystem::path(variable("NEUTRINO_REPLICA")).filename().string();
  write_all(fd.get(), fmt::format("{} {} {}\n", id, variable("NEUTRINO_GENERATION"), ::getpid()), journal);
}

}  // namespace

int run_replica(int argc, char** argv) {
  if (argc > 2) note_start(argv[2]);
  const FileDescriptor listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int yes = 1;
  ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[1])));
  address.sin_addr.s_addr = ::inet_addr("127.0.0.1");
  if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.get(), 128) != 0)
    throw system_error("listen on port", argv[1]);
  const std::string body = variable("NEUTRINO_REPLICA");
  const std::string answer =
      fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}", body.size(), body);
  for (;;) {
    const FileDescriptor client(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client) continue;
    char request[4096];
    if (::read(client.get(), request, sizeof request) > 0) write_all(client.get(), answer, "a client");
  }
}

}  // namespace neutrino::cloud::testing
