// The fetcher against a server that answers with exactly what a test wrote, and notes what it was asked.
#include "net/fetch.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <mutex>
#include <thread>

#include "net/testing/raw_server.h"

namespace neutrino::net {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class CannedServer {
 public:
  explicit CannedServer(std::map<std::string, std::string> answers) : answers_(std::move(answers)) {
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    check(::bind(fd_, reinterpret_cast<sockaddr*>(&address), size) == 0 && ::listen(fd_, 16) == 0);
    check(::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~CannedServer() {
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
  }
  std::string url(std::string_view path = "") const {
    return fmt::format("http://127.0.0.1:{}{}", port_, path);
  }
  void answer(const std::string& path, std::string text) {
    const std::lock_guard held(mutex_);
    answers_[path] = std::move(text);
  }
  std::string requests() {
    const std::lock_guard held(mutex_);
    return requests_;
  }

 private:
  static bool is_whole(const std::string& request) {
    const size_t head = request.find("\r\n\r\n"), length = request.find("Content-Length: ");
    if (head == request.npos) return false;
    return length == request.npos || request.size() >= head + 4 + std::stoul(request.substr(length + 16));
  }
  void serve() {
    for (;;) {
      const int client = ::accept(fd_, nullptr, nullptr);
      if (client < 0) return;
      std::string request;
      char buffer[4096];
      while (!is_whole(request)) {
        const ssize_t got = ::recv(client, buffer, sizeof buffer, 0);
        if (got <= 0) break;
        request.append(buffer, static_cast<size_t>(got));
      }
      const size_t begin = request.find(' ') + 1;
      const std::string path = request.substr(begin, request.find(' ', begin) - begin);
      std::string text;
      {
        const std::lock_guard held(mutex_);
        requests_ += request;
        text =
            answers_.contains(path) ? answers_[path] : "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
      }
      for (size_t sent = 0; sent < text.size();) {
        const ssize_t done = ::send(client, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
        if (done <= 0) break;
        sent += static_cast<size_t>(done);
      }
      ::close(client);
    }
  }

  std::map<std::string, std::string> answers_;
  std::string requests_;
  std::mutex mutex_;
  int fd_ = -1, port_ = 0;
  std::thread thread_;
};

std::string ok(std::string_view body, std::string_view headers = "") {
  return fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n{}\r\n{}", body.size(),
                     headers, body);
}
std::string redirect(std::string_view to) {
  return fmt::format(
      "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\nX-Hop: first\r\nLocation: {}\r\n\r\n",
      to);
}

Error error_of(const FetchRequest& request) {
  try {
    Fetcher().get(request);
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorCode::internal, "nothing was thrown");
}

TEST(Url, is_taken_apart_and_resolved) {
  const Url url = Url::parse("HTTPS://Host.test/a/b?c=d#e");
  EXPECT_EQ(url.origin(), "https://host.test:443");
  EXPECT_EQ(url.path(), "/a/b");
  EXPECT_EQ(url.resolve("/x").text(), "https://Host.test/x");
  EXPECT_EQ(url.resolve("y").origin(), url.origin());
  EXPECT_EQ(url.resolve("//other.test:8443/z").origin(), "https://other.test:8443");
  EXPECT_TRUE(Url::parse("http://127.1.2.3:80/").is_loopback());
  EXPECT_TRUE(Url::parse("http://[::1]:80/").is_loopback());
  EXPECT_FALSE(Url::parse("http://127.evil.test/").is_loopback());
  EXPECT_FALSE(Url::parse("http://localhost.evil.test/").is_loopback());
  for (const char* bad : {"", "file:///etc/passwd", "ftp://x/y", "https://", "https://user:secret@host/",
                          "https://ho st/", "host/path", "https://h/\n", "javascript:alert(1)"})
    EXPECT_THROW(Url::parse(bad), Error) << bad;
  EXPECT_EQ(percent_encode("a/b c%\xff"), "a%2Fb%20c%25%FF");
  EXPECT_EQ(percent_encode_path("a/b c"), "a/b%20c");
}

TEST(Fetcher, gets_a_body_and_headers) {
  CannedServer server({{"/x", ok("hello", "ETag: \"7\"\r\n")}});
  const FetchResponse response =
      Fetcher().get({.url = Url::parse(server.url("/x")), .headers = {{"Range", "bytes=0-4"}}});
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.body, "hello");
  EXPECT_EQ(response.headers.find("etag"), "\"7\"");
  EXPECT_FALSE(response.headers.find("nonesuch"));
  EXPECT_THAT(server.requests(), HasSubstr("Range: bytes=0-4\r\n"));
  EXPECT_EQ(Fetcher().get({.url = Url::parse(server.url("/none"))}).status, 404);
}

TEST(Fetcher, sends_other_methods_with_their_bodies) {
  CannedServer server({{"/x", ok("made")}, {"/moved", redirect("/x")}});
  Fetcher fetcher;
  const auto send = [&](std::string method, std::string_view path, std::string body) {
    return fetcher.send({.url = Url::parse(server.url(path)),
                         .headers = {{"Content-Type", "application/json"}},
                         .authorization = "Bearer t",
                         .method = std::move(method),
                         .body = std::move(body)});
  };
  for (const std::string method : {"POST", "PUT", "PATCH", "DELETE"}) {
    EXPECT_EQ(send(method, "/x", "{\"name\":1}").body, "made");
    EXPECT_THAT(server.requests(), HasSubstr(method + " /x HTTP/1.1"));
    EXPECT_THAT(server.requests(),
                ::testing::EndsWith("Content-Type: application/json\r\nAuthorization: Bearer t\r\n"
                                    "Content-Length: 10\r\n\r\n{\"name\":1}"));
  }
  send("POST", "/x", "");
  EXPECT_THAT(server.requests(), ::testing::EndsWith("Content-Length: 0\r\n\r\n"));
  EXPECT_EQ(send("POST", "/moved", "{}").status, 302);  // where a body goes, its sender says
  EXPECT_EQ(fetcher.get({.url = Url::parse(server.url("/x"))}).body, "made");
  EXPECT_THAT(server.requests(), HasSubstr("GET /x HTTP/1.1"));
}

TEST(Fetcher, gives_a_body_to_a_sink_and_lets_it_refuse) {
  CannedServer server({{"/x", ok("hello")}});
  std::string taken;
  Fetcher fetcher;
  fetcher.get({.url = Url::parse(server.url("/x"))}, [&](const FetchResponse& head, std::string_view piece) {
    EXPECT_EQ(head.status, 200);
    taken += piece;
  });
  EXPECT_EQ(taken, "hello");
  const auto refuse = [](const FetchResponse&, std::string_view) {
    throw make_error(ErrorCode::data_loss, "no more");
  };
  try {
    fetcher.get({.url = Url::parse(server.url("/x"))}, refuse);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.message(), "no more");
    EXPECT_FALSE(is_passing(error));
  }
}

// T-DL-02: what is secret goes to the origin it was given for, and is dropped for good at the first hop that leaves it.
TEST(Fetcher, authorization_does_not_leave_its_origin) {
  CannedServer other({{"/leaf", ok("leaf")}}),
      home({{"/start", redirect("/next")}, {"/back", ok("home again")}});
  home.answer("/next", redirect(other.url("/leaf")));
  const FetchRequest request{
      .url = Url::parse(home.url("/start")), .headers = {{"X-Plain", "p"}}, .authorization = "Bearer secret"};
  const FetchResponse response = Fetcher().get(request);
  EXPECT_EQ(response.body, "leaf");
  EXPECT_EQ(response.first_headers.find("x-hop"), "first");
  EXPECT_FALSE(response.headers.find("x-hop"));
  EXPECT_THAT(home.requests(), HasSubstr("GET /next"));
  EXPECT_THAT(other.requests(), Not(HasSubstr("secret")));
  EXPECT_THAT(other.requests(), HasSubstr("X-Plain: p"));
  const std::string sent = home.requests();
  EXPECT_NE(sent.find("secret"), sent.rfind("secret"));  // both hops at home had it

  other.answer("/leaf", redirect(home.url("/back")));
  EXPECT_EQ(Fetcher().get(request).body, "home again");
  const std::string back = home.requests().substr(home.requests().find("GET /back"));
  EXPECT_THAT(back, Not(HasSubstr("secret")));
}

TEST(Fetcher, a_redirect_loop_ends) {
  CannedServer server({{"/a", redirect("/b")}, {"/b", redirect("/a")}});
  const Error error = error_of({.url = Url::parse(server.url("/a"))});
  EXPECT_EQ(error.code(), ErrorCode::failed_precondition);
  EXPECT_THAT(error.message(), HasSubstr("redirect loop"));
}

TEST(Fetcher, redirects_only_to_what_may_be_fetched) {
  CannedServer server({{"/plain", redirect("http://example.test/x")},
                       {"/file", redirect("file:///etc/passwd")},
                       {"/user", redirect("http://a:b@127.0.0.1/")},
                       {"/nowhere", "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"}});
  for (const char* path : {"/plain", "/file", "/user", "/nowhere"}) {
    const Error error = error_of({.url = Url::parse(server.url(path))});
    EXPECT_NE(error.code(), ErrorCode::internal) << path;
    EXPECT_FALSE(is_passing(error)) << path;
  }
  EXPECT_EQ(error_of({.url = Url::parse("http://example.test/")}).code(), ErrorCode::invalid_argument);
}

TEST(Fetcher, a_cut_and_a_closed_port_may_pass) {
  CannedServer server({{"/cut", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"},
                       {"/none", ""},
                       {"/odd", "what?\r\n\r\n"}});
  for (const char* path : {"/cut", "/none"})
    EXPECT_TRUE(is_passing(error_of({.url = Url::parse(server.url(path))}))) << path;
  EXPECT_EQ(error_of({.url = Url::parse(server.url("/odd"))}).code(), ErrorCode::unavailable);
  EXPECT_TRUE(is_passing(error_of({.url = Url::parse("http://127.0.0.1:1/")})));
}

TEST(Fetcher, a_host_that_nobody_knows_may_be_known_next_time) {
  Fetcher fetcher;
  for (int i = 0; i < 3; ++i) {
    try {
      fetcher.get({.url = Url::parse("https://host.invalid/file")});
      FAIL();
    } catch (const Error& error) {
      EXPECT_TRUE(is_passing(error)) << error.what();
      EXPECT_THAT(error.what(), HasSubstr("host.invalid"));
    }
  }
}

TEST(Fetcher, has_limits) {
  CannedServer server({{"/long", ok(std::string(2000, 'x'))},
                       {"/headers", ok("", "X: " + std::string(70'000, 'x') + "\r\n")}});
  EXPECT_EQ(error_of({.url = Url::parse(server.url("/long")), .body_bytes_max = 1000}).code(),
            ErrorCode::data_loss);
  EXPECT_EQ(error_of({.url = Url::parse(server.url("/headers"))}).code(), ErrorCode::data_loss);
  const Error split =
      error_of({.url = Url::parse(server.url("/long")), .authorization = "Bearer a\r\nX-Evil: 1"});
  EXPECT_EQ(split.code(), ErrorCode::invalid_argument);
  EXPECT_THAT(split.message(), Not(HasSubstr("Evil")));
}

TEST(Fetcher, a_time_limit_holds_for_an_answer_that_drips) {
  testing::RawServer server([](testing::RawPeer& peer) {
    peer.read_until("\r\n\r\n");
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    while (peer.send("x")) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  });
  const FetchRequest request{.url = Url::parse(fmt::format("http://127.0.0.1:{}/", server.port())),
                             .timeout_seconds = 1};
  try {
    Fetcher().get(request);
    ADD_FAILURE() << "the whole answer takes ten seconds";
  } catch (const Error& error) {
    EXPECT_TRUE(is_passing(error)) << error.what();
  }
}

}  // namespace
}  // namespace neutrino::net
