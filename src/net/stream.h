// One client's bytes, in the clear or through TLS, behind one face: what lies above reads and writes and does not know.
//
// io thread only. At most one read and one write at a time; the two may overlap, and a read may be cancelled without loss.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <cstddef>
#include <memory>
#include <string_view>

namespace boost::asio::ssl {
class context;
}

namespace neutrino::net {

namespace asio = boost::asio;

class Stream {
 public:
  explicit Stream(const asio::any_io_executor& executor) : executor_(executor) {}
  virtual ~Stream() = default;

  virtual asio::ip::tcp::socket& socket() = 0;                              // underneath
  virtual asio::awaitable<bool> handshake() = 0;                            // false: refused
  virtual asio::awaitable<size_t> read_some(char* to, size_t at_most) = 0;  // 0: the end, or an error
  virtual asio::awaitable<size_t> write_some(std::string_view bytes) = 0;   // 0: an error
  // How many bytes the socket took at once. 0: it has no room, is closed, or they have to be encrypted: write_some() tells which.
  // From any thread while no write is under way.
  virtual size_t write_now(std::string_view bytes) = 0;
  virtual asio::awaitable<void> say_goodbye() = 0;  // nothing more is written; bounded by cancel() alone

  const asio::any_io_executor& executor() const { return executor_; }
  bool is_open() { return socket().is_open(); }
  void cancel();
  void close();

 private:
  asio::any_io_executor executor_;
};

// Through TLS where there is a context. The context may be replaced for later streams at any time.
std::unique_ptr<Stream> make_stream(asio::ip::tcp::socket socket,
                                    const std::shared_ptr<asio::ssl::context>& tls);

}  // namespace neutrino::net
