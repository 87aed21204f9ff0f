#include "net/http_syntax.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/limits.h"
#include "base/random.h"

namespace neutrino::net {
namespace {

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
         c == '.' || c == ':';
}

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

bool allowed_after(char before, char c) {
  if (c == '\0') return false;
  return (before == '\r') == (c == '\n');
}

}  // namespace

HeaderScan::Result HeaderScan::scan(std::string_view text) {
  for (; position_ < text.size(); ++position_) {
    if (position_ >= static_cast<size_t>(limits::kHeaderBytes)) return Result::too_large;
    const char before = position_ > 0 ? text[position_ - 1] : '\0';
    const char c = text[position_];
    if (!allowed_after(before, c)) return Result::malformed;
    if (before == '\n' && (c == ' ' || c == '\t')) return Result::malformed;  // a folded line
    if (c == '\n' && position_ >= 3 && text[position_ - 2] == '\n') return ++position_, Result::complete;
  }
  return Result::incomplete;
}

BodyFraming body_framing(const std::vector<Header>& headers) {
  BodyFraming framing;
  int lengths = 0, encodings = 0, hosts = 0;
  for (const Header& header : headers) {
    if (header.name == "host") ++hosts;
    if (header.name == "transfer-encoding") {
      ++encodings;
      framing.chunked = true;
      if (!equals_ignoring_case(header.value, "chunked")) framing.fault = "Transfer-Encoding must be chunked";
    }
    if (header.name == "content-length") {
      ++lengths;
      const char* end = header.value.data() + header.value.size();
      const auto [stop, error] = std::from_chars(header.value.data(), end, framing.content_length);
      if (error != std::errc() || stop != end) framing.fault = "Content-Length must be a decimal number";
    }
  }
  if (lengths > 1 || encodings > 1 || hosts > 1) framing.fault = "a framing or Host header is there twice";
  if (lengths && encodings) framing.fault = "Content-Length and Transfer-Encoding exclude each other";
  return framing;
}

bool split_target(std::string_view target, Request& request) {
  if (target.starts_with("http://") || target.starts_with("https://")) {
    target.remove_prefix(target.find("//") + 2);
    const size_t slash = std::min(target.find_first_of("/?"), target.size());
    std::erase_if(request.headers, [](const Header& header) { return header.name == "host"; });
    request.headers.push_back({"host", std::string(target.substr(0, slash))});
    target.remove_prefix(slash);
    if (target.empty() || target[0] == '?') return false;
  }
  if (!target.starts_with('/')) return false;
  const size_t question = target.find('?');
  request.path = target.substr(0, question);
  request.query = question == std::string_view::npos ? std::string_view() : target.substr(question + 1);
  return true;
}

std::string request_id(std::string_view offered) {
  const bool sane = !offered.empty() && offered.size() <= static_cast<size_t>(limits::kRequestIdBytes) &&
                    std::all_of(offered.begin(), offered.end(), is_plain);
  if (sane) return std::string(offered);
  // Random once a thread, then counted through a cipher: an id is for finding a request again, not a secret.
  thread_local Philox random(system_entropy());
  thread_local uint64_t count = 0;
  const auto bits = random.block(++count);
  return fmt::format("req-{:08x}{:08x}{:08x}{:08x}", bits[0], bits[1], bits[2], bits[3]);
}

}  // namespace neutrino::net
