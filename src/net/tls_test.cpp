// TLS on a real socket: what is spoken and what is refused, client certificates, files that change, clients that stall.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "net/server.h"
#include "net/sse.h"
#include "net/testing/tls_client.h"

namespace neutrino::net {
namespace {

using std::chrono::steady_clock;
using testing::Authority;
using testing::CertificateFiles;
using testing::get;
using ::testing::HasSubstr;
using testing::RawClient;
using testing::Reply;
using testing::TlsClient;
using testing::TlsClientOptions;

// GET /hello, GET /big (4 MB), GET /events (an event a millisecond until nobody listens).
class TlsServer {
 public:
  explicit TlsServer(TlsFiles files, Timeouts timeouts = {})
      : server_(options_of(std::move(files), timeouts)) {
    server_.set_routes({
        {{.method = Method::get, .path = "/hello", .auth = AuthPolicy::open},
         [](const Request&, Response& r) { return answer(r, R"({"hello":1})"); }},
        {{.method = Method::get, .path = "/big", .auth = AuthPolicy::open},
         [](const Request&, Response& r) { return answer(r, std::string(4 << 20, 'b')); }},
        {{.method = Method::get, .path = "/events", .auth = AuthPolicy::open},
         [this](const Request&, Response& r) { return events(r); }},
    });
    server_.listen();
    thread_ = std::thread([this] { server_.run(); });
  }
  ~TlsServer() {
    server_.stop();
    thread_.join();
  }
  int port() const { return server_.port(); }
  HttpServer& server() { return server_; }
  std::atomic<int> good_reloads{0}, bad_reloads{0}, refused_handshakes{0}, streams_ended{0};

 private:
  ServerOptions options_of(TlsFiles files, Timeouts timeouts) {
    spdlog::set_level(spdlog::level::off);
    ServerOptions options{.port = 0, .tls = std::move(files), .timeouts = timeouts, .tick = milliseconds(10)};
    options.on_reload = [this](std::string_view, bool good) { ++(good ? good_reloads : bad_reloads); };
    options.on_handshake_failure = [this] { ++refused_handshakes; };
    return options;
  }
  static asio::awaitable<void> answer(Response& response, std::string body) {
    response.send(200, std::move(body));
    co_return;
  }
  asio::awaitable<void> events(Response& response) {
    EventStream stream(response, milliseconds(1000));
    co_await stream.begin();
    for (int i = 0; response.interruption() == Interruption::none; ++i) {
      co_await stream.event(std::to_string(i));
      co_await response.signal().wait(milliseconds(1));
    }
    ++streams_ended;
  }

  HttpServer server_;
  std::thread thread_;
};

bool eventually(const std::function<bool()>& condition) {
  const auto end = steady_clock::now() + std::chrono::seconds(10);
  while (!condition() && steady_clock::now() < end) std::this_thread::sleep_for(milliseconds(2));
  return condition();
}

class Tls : public ::testing::Test {
 protected:
  TlsFiles files(const CertificateFiles& of) const {
    return {.certificate = of.certificate, .key = of.key, .client_ca = {}};
  }
  TlsClientOptions client() const { return {.authority = authority_.certificate()}; }
  TlsClientOptions client_with(const CertificateFiles& certificate) const {
    return {.authority = authority_.certificate(), .certificate = certificate};
  }
  static int status(TlsClient& client) {
    if (!client.connected() || !client.send(get("/hello"))) return 0;
    return client.read_reply().status;
  }

  Authority authority_{"authority of the test"};
  CertificateFiles server_ = authority_.issue("server-one");
};

TEST_F(Tls, AnswersSeveralRequestsOnOneConnection) {
  TlsServer server(files(server_));
  TlsClient client(server.port(), this->client());
  ASSERT_TRUE(client.connected());
  EXPECT_EQ(client.version(), "TLSv1.3");
  EXPECT_EQ(client.server_name(), "server-one");
  for (int i = 0; i < 3; ++i) {
    client.send(get("/hello"));
    EXPECT_EQ(client.read_reply().body, R"({"hello":1})");
  }
  client.send(get("/big"));
  EXPECT_EQ(client.read_reply().body, std::string(4 << 20, 'b'));
  client.send(get("/hello", "Connection: close\r\n"));
  EXPECT_EQ(client.read_reply().status, 200);
  client.closed_by_peer();
  EXPECT_TRUE(client.said_goodbye());  // an answer that was cut short would not be followed by it
}

TEST_F(Tls, StreamsAndNoticesThatTheClientHasLeft) {
  TlsServer server(files(server_));
  {
    TlsClient client(server.port(), this->client());
    client.send(get("/events"));
    EXPECT_TRUE(client.read_until("data: 20\n"));
    EXPECT_EQ(server.streams_ended, 0);
  }
  EXPECT_TRUE(eventually([&] { return server.streams_ended == 1; }));
  TlsClient hasty(server.port(), this->client());
  hasty.send(get("/events"));
  EXPECT_TRUE(hasty.read_until("data: 5\n"));
  hasty.reset();
  EXPECT_TRUE(eventually([&] { return server.streams_ended == 2; }));
}

TEST_F(Tls, SpeaksNothingOldOrWeak) {
  TlsServer server(files(server_));
  const auto connects = [&](TlsClientOptions options) {
    TlsClient client(server.port(), options);
    return status(client) == 200;
  };
  TlsClientOptions options = client();
  options.version_max = TLS1_2_VERSION;
  EXPECT_TRUE(connects(options));
  options.ciphers12 = "ECDHE-ECDSA-AES128-GCM-SHA256";
  EXPECT_TRUE(connects(options));
  options.ciphers12 = "ECDHE-ECDSA-AES128-SHA256";  // CBC
  EXPECT_FALSE(connects(options));
  options.ciphers12 = "AES128-GCM-SHA256";  // no forward secrecy
  EXPECT_FALSE(connects(options));
  options = client();
  options.version_max = TLS1_1_VERSION;
  EXPECT_FALSE(connects(options));
  options = client();
  options.protocol = "http/1.1";
  EXPECT_TRUE(connects(options));
  options.protocol = "h2";
  EXPECT_FALSE(connects(options));
  EXPECT_TRUE(eventually([&] { return server.refused_handshakes >= 4; }));
  const Authority stranger("another authority");
  options = {.authority = stranger.certificate()};
  EXPECT_FALSE(connects(options));  // negative control: this client does look at certificates
}

TEST_F(Tls, PlainHttpIsToldToSpeakTls) {
  TlsServer server(files(server_));
  RawClient client(server.port());
  client.send(get("/hello"));
  const Reply reply = client.read_reply();
  EXPECT_EQ(reply.status, 400);
  EXPECT_THAT(reply.body, HasSubstr("tls_required"));
  EXPECT_TRUE(reply.complete);
  EXPECT_TRUE(client.closed_by_peer());
}

TEST_F(Tls, ClientCertificatesAreRequiredWhereAnAuthorityIsGiven) {
  const Authority clients("authority of clients");
  TlsFiles with_clients = files(server_);
  with_clients.client_ca = clients.certificate();
  TlsServer server(with_clients);
  TlsClient good(server.port(), client_with(clients.issue("client")));
  EXPECT_EQ(status(good), 200);
  TlsClient without(server.port(), client());
  EXPECT_EQ(status(without), 0);
  TlsClient foreign(server.port(),
                    client_with(authority_.issue("client")));  // the server's own authority is another one
  EXPECT_EQ(status(foreign), 0);
  EXPECT_TRUE(eventually([&] { return server.refused_handshakes == 2; }));
}

TEST_F(Tls, ANewCertificateIsTakenInWithoutDroppingAConnection) {
  TlsServer server(files(server_));
  TlsClient before(server.port(), client());
  EXPECT_EQ(status(before), 200);
  TlsClient streaming(server.port(), client());
  streaming.send(get("/events"));
  EXPECT_TRUE(streaming.read_until("data: 1\n"));
  const CertificateFiles renewed = authority_.issue("server-two");
  std::filesystem::rename(renewed.key, server_.key);
  std::filesystem::rename(renewed.certificate, server_.certificate);
  ASSERT_TRUE(eventually([&] { return server.good_reloads >= 1; }));
  TlsClient after(server.port(), client());
  EXPECT_EQ(after.server_name(), "server-two");
  EXPECT_EQ(status(after), 200);
  EXPECT_EQ(status(before), 200);
  EXPECT_EQ(before.server_name(), "server-one");
  const size_t seen = streaming.seen().size();
  EXPECT_TRUE(streaming.read_until("data: 100\n"));
  EXPECT_GT(streaming.seen().size(), seen);

  write_file_atomic(server_.certificate, "not a certificate");
  EXPECT_TRUE(eventually([&] { return server.bad_reloads >= 1; }));
  TlsClient still(server.port(), client());
  EXPECT_EQ(still.server_name(), "server-two");
}

TEST_F(Tls, AClientThatNeverFinishesItsHandshakeIsClosed) {
  TlsServer server(files(server_), {.header = milliseconds(200)});
  RawClient silent(server.port()), half(server.port());
  half.send("\x16\x03\x01\x02");  // a record header's first bytes
  const auto start = steady_clock::now();
  EXPECT_TRUE(silent.closed_by_peer());
  EXPECT_TRUE(half.closed_by_peer());
  EXPECT_LT(steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_TRUE(eventually([&] { return server.server().connections() == 0; }));
  EXPECT_EQ(server.refused_handshakes, 2);
}

TEST_F(Tls, ASlowHeaderAndASlowReaderHaveTheirLimits) {
  TlsServer server(files(server_), {.header = milliseconds(300), .write_stall = milliseconds(300)});
  TlsClient slow(server.port(), client());
  slow.send("GET /hello HTTP/1.1\r\nHost: loc");
  EXPECT_EQ(slow.read_reply().status, 408);
  TlsClient lazy(server.port(), client());
  lazy.send(get("/big"));  // and is not read
  EXPECT_TRUE(eventually([&] { return server.server().requests_in_flight() == 0; }));
  EXPECT_TRUE(eventually([&] { return server.server().connections() == 0; }));
}

TEST_F(Tls, GarbageInsideAndAroundRecordsEndsTheConnectionOnly) {
  TlsServer server(files(server_));
  for (int i = 0; i < 20; ++i) {
    RawClient garbage(server.port());
    garbage.send(std::string("\x16\x03\x03\x40\x00", 5) + std::string(20000, static_cast<char>(i * 13)));
    EXPECT_TRUE(garbage.closed_by_peer());
  }
  TlsClient cut(server.port(), client());
  cut.send(get("/hello").substr(0, 10));
  cut.close();  // without a goodbye
  TlsClient good(server.port(), client());
  EXPECT_EQ(status(good), 200);
}

std::string fault_of(const TlsFiles& files) {
  try {
    load_tls(files);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.message();
  }
  return "";
}

TEST_F(Tls, BadFilesAreNamed) {
  EXPECT_EQ(load_tls({}), nullptr);
  EXPECT_EQ(fault_of(files(server_)), "");
  TlsFiles bad = files(server_);
  bad.key.clear();
  EXPECT_THAT(fault_of(bad), HasSubstr("both --tls-cert and --tls-key"));
  EXPECT_THAT(fault_of({.client_ca = server_.certificate}), HasSubstr("both --tls-cert and --tls-key"));
  bad = files(server_);
  bad.certificate = "/nowhere/cert.pem";
  EXPECT_THAT(fault_of(bad), HasSubstr("--tls-cert /nowhere/cert.pem"));
  bad = files(server_);
  bad.key = authority_.issue("other").key;
  EXPECT_THAT(fault_of(bad), HasSubstr("mismatch"));
  bad = files(server_);
  bad.client_ca = server_.key;
  EXPECT_THAT(fault_of(bad), HasSubstr("--tls-client-ca"));
  bad.client_ca = authority_.file("empty");
  write_file_atomic(bad.client_ca, "");
  EXPECT_THAT(fault_of(bad), HasSubstr("--tls-client-ca"));
}

}  // namespace
}  // namespace neutrino::net
