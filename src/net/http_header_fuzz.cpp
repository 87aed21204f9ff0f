// Request headers, in pieces as a socket gives them: where the header ends does not depend on how it came, and its framing and
// target are taken apart within their bounds.
#include <algorithm>

#include "base/testing/fuzz.h"
#include "net/http_syntax.h"

using namespace neutrino;
using namespace neutrino::net;

namespace {

HeaderScan::Result scan_in_pieces(std::string_view text, size_t piece) {
  HeaderScan scan;
  HeaderScan::Result result = HeaderScan::Result::incomplete;
  for (size_t size = 0; size < text.size() && result == HeaderScan::Result::incomplete;) {
    size = std::min(size + piece, text.size());
    result = scan.scan(text.substr(0, size));
  }
  return result;
}

std::vector<Header> headers_of(std::string_view text) {
  std::vector<Header> headers;
  for (size_t end; (end = text.find("\r\n")) != std::string_view::npos; text.remove_prefix(end + 2))
    if (const size_t colon = text.substr(0, end).find(':'); colon != std::string_view::npos)
      headers.push_back(
          {std::string(text.substr(0, colon)), std::string(text.substr(colon + 1, end - colon - 1))});
  return headers;
}

}  // namespace

NEUTRINO_FUZZ(http_header) {
  const size_t piece = take_byte(data) % 16 + 1;
  const std::string_view text = as_text(data);
  check(scan_in_pieces(text, piece) == scan_in_pieces(text, text.size() + 1),
        "the pieces changed the result");
  const BodyFraming framing = body_framing(headers_of(text));
  check(!framing.fault.empty() || !framing.chunked || framing.content_length == 0, "two framings");
  Request request;
  if (split_target(text.substr(0, text.find('\r')), request))
    check(request.path.starts_with('/'), "a path without a root");
  check(!request_id(text).empty(), "no request id");
}
