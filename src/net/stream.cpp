#include "net/stream.h"

#include <openssl/err.h>
#include <openssl/sslerr.h>
#include <sys/socket.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <fmt/format.h>

#include <string>
#include <utility>

namespace neutrino::net {
namespace {

using asio::ip::tcp;
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

class PlainStream final : public Stream {
 public:
  explicit PlainStream(tcp::socket socket) : Stream(socket.get_executor()), socket_(std::move(socket)) {}
  tcp::socket& socket() override { return socket_; }
  asio::awaitable<bool> handshake() override { co_return true; }
  asio::awaitable<void> say_goodbye() override { co_return; }
  asio::awaitable<size_t> read_some(char* to, size_t at_most) override {
    const auto [error, bytes] = co_await socket_.async_read_some(asio::buffer(to, at_most), kAwait);
    co_return error ? 0 : bytes;
  }
  asio::awaitable<size_t> write_some(std::string_view bytes) override {
    const auto [error, sent] = co_await socket_.async_write_some(asio::buffer(bytes), kAwait);
    co_return error ? 0 : sent;
  }
  size_t write_now(std::string_view bytes) override {
    const ssize_t sent =
        ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent > 0 ? static_cast<size_t>(sent) : 0;
  }

 private:
  tcp::socket socket_;
};

std::string answer_to_plain_http() {
  constexpr std::string_view kBody =
      R"({"error":{"message":"this port speaks TLS: say https:// instead of http://",)"
      R"("type":"invalid_request_error","param":null,"code":"tls_required"}})";
  return fmt::format(
      "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\n"
      "Content-Length: {}\r\n\r\n{}",
      kBody.size(), kBody);
}

class TlsStream final : public Stream {
 public:
  TlsStream(tcp::socket socket, asio::ssl::context& context)
      : Stream(socket.get_executor()), stream_(std::move(socket), context) {}
  tcp::socket& socket() override { return stream_.next_layer(); }

  asio::awaitable<bool> handshake() override {
    const auto [error] = co_await stream_.async_handshake(asio::ssl::stream_base::server, kAwait);
    if (!error) co_return true;
    const bool plain_http = error.category() == asio::error::get_ssl_category() &&
                            ERR_GET_REASON(static_cast<unsigned long>(error.value())) == SSL_R_HTTP_REQUEST;
    if (plain_http) {
      const std::string answer = answer_to_plain_http();
      co_await stream_.next_layer().async_write_some(asio::buffer(answer), kAwait);
    }
    co_return false;
  }

  asio::awaitable<void> say_goodbye() override { co_await stream_.async_shutdown(kAwait); }

  asio::awaitable<size_t> read_some(char* to, size_t at_most) override {
    const auto [error, bytes] = co_await stream_.async_read_some(asio::buffer(to, at_most), kAwait);
    co_return error ? 0 : bytes;
  }

  asio::awaitable<size_t> write_some(std::string_view bytes) override {
    const auto [error, sent] = co_await stream_.async_write_some(asio::buffer(bytes), kAwait);
    co_return error ? 0 : sent;
  }
  size_t write_now(std::string_view) override { return 0; }

 private:
  asio::ssl::stream<tcp::socket> stream_;  // holds what it needs of its context
};

}  // namespace

void Stream::cancel() {
  boost::system::error_code ignored;
  socket().cancel(ignored);
}

void Stream::close() {
  boost::system::error_code ignored;
  socket().close(ignored);
}

std::unique_ptr<Stream> make_stream(tcp::socket socket, const std::shared_ptr<asio::ssl::context>& tls) {
  if (tls) return std::make_unique<TlsStream>(std::move(socket), *tls);
  return std::make_unique<PlainStream>(std::move(socket));
}

}  // namespace neutrino::net
