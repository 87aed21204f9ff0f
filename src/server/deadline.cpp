#include "server/deadline.h"

#include <algorithm>
#include <charconv>
#include <chrono>

namespace neutrino::server {
namespace {

std::optional<int64_t> header_ms(const net::Request& request) {
  const std::string_view text = request.header("x-request-timeout");
  if (text.empty()) return std::nullopt;
  double seconds = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), seconds, std::chars_format::fixed);
  const bool number = error == std::errc() && end == text.data() + text.size();
  const double most = static_cast<double>(kTimeoutMsMax) / 1000;
  if (!number || !(seconds > 0 && seconds <= most))
    throw make_error(ErrorCode::invalid_argument,
                     "X-Request-Timeout must be seconds above 0 and at most {}, got \"{:.40}\"", most, text)
        .with_param("X-Request-Timeout");
  return std::max<int64_t>(1, static_cast<int64_t>(seconds * 1000));
}

}  // namespace

std::optional<int64_t> timeout_left_ms(const net::Request& request, std::optional<int64_t> field_ms) {
  std::optional<int64_t> timeout = header_ms(request);
  if (field_ms) timeout = std::min(*field_ms, timeout.value_or(*field_ms));
  if (!timeout) return std::nullopt;
  const int64_t now_ns = std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  const int64_t left = *timeout - (now_ns - request.received_ns) / 1'000'000;
  if (left <= 0) throw deadline_error();
  return left;
}

Error deadline_error() {
  return Error(ErrorCode::deadline_exceeded, "the request took longer than its timeout")
      .with_reason("deadline_exceeded");
}

}  // namespace neutrino::server
