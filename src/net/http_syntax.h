// The strict outer shape of an HTTP/1.1 request header, checked before the parser sees it: what parsers are known to disagree
// about (bare CR or LF, NUL, folded lines, a second Content-Length, unusual Transfer-Encoding) is refused, not interpreted.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "net/request.h"

namespace neutrino::net {

// Looks for the empty line that ends a header, as bytes arrive.
class HeaderScan {
 public:
  enum class Result { incomplete, complete, malformed, too_large };
  Result scan(std::string_view text);  // all bytes so far; continues where the last call stopped
  size_t size() const { return position_; }

 private:
  size_t position_ = 0;
};

// What a header says about its body, or how it contradicts itself.
struct BodyFraming {
  bool chunked = false;
  size_t content_length = 0;
  std::string fault;  // not empty: refuse with 400
};
BodyFraming body_framing(const std::vector<Header>& headers);

// Splits "/path?query" or "http://host/path?query"; the authority of the second form replaces the Host header (RFC 9112 3.2).
// False for any other form.
bool split_target(std::string_view target, Request& request);

// The client's X-Request-Id when it is short and plain, else a new one.
std::string request_id(std::string_view offered);

}  // namespace neutrino::net
