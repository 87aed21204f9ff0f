#include "net/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

#include "base/error.h"

namespace neutrino::net {
namespace {

struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using UrlHandle = std::unique_ptr<CURLU, FreeUrl>;

constexpr size_t kUrlBytesMax = 16 << 10;

std::string shown(std::string_view text) {
  std::string result(text.substr(0, 200));
  std::replace_if(result.begin(), result.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return result;
}

void check_text(std::string_view text) {
  const bool clean = std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
  if (clean && !text.empty() && text.size() <= kUrlBytesMax) return;
  throw make_error(ErrorCode::invalid_argument,
                   "a URL must be 1-{} printable ASCII characters without a space, got \"{}\"", kUrlBytesMax,
                   shown(text));
}

std::string part_of(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* value = nullptr;
  if (curl_url_get(url, part, &value, flags) != CURLUE_OK) return "";
  const std::unique_ptr<char, decltype(&curl_free)> owned(value, curl_free);
  return value;
}

void set(CURLU* url, std::string_view text) {
  check_text(text);
  const CURLUcode code = curl_url_set(url, CURLUPART_URL, std::string(text).c_str(), CURLU_PATH_AS_IS);
  if (code != CURLUE_OK)
    throw make_error(ErrorCode::invalid_argument, "\"{}\" is not an http or https URL: {}", shown(text),
                     curl_url_strerror(code));
}

}  // namespace

Url Url::parse(std::string_view text) {
  const UrlHandle handle(curl_url());
  check(handle != nullptr);
  set(handle.get(), text);
  Url url;
  url.scheme_ = part_of(handle.get(), CURLUPART_SCHEME);
  url.host_ = part_of(handle.get(), CURLUPART_HOST);
  url.port_ = part_of(handle.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  url.path_ = part_of(handle.get(), CURLUPART_PATH);
  std::transform(url.host_.begin(), url.host_.end(), url.host_.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if ((url.scheme_ != "http" && url.scheme_ != "https") || url.host_.empty())
    throw make_error(ErrorCode::invalid_argument, "\"{}\" must begin with https:// and a host", shown(text));
  if (!part_of(handle.get(), CURLUPART_USER).empty() || !part_of(handle.get(), CURLUPART_PASSWORD).empty())
    throw make_error(ErrorCode::invalid_argument, "a URL must not hold a user or a password, that of {} does",
                     url.host_);
  curl_url_set(handle.get(), CURLUPART_FRAGMENT, nullptr, 0);
  url.text_ = part_of(handle.get(), CURLUPART_URL);
  return url;
}

Url Url::resolve(std::string_view reference) const {
  const UrlHandle handle(curl_url());
  check(handle != nullptr);
  set(handle.get(), text_);
  set(handle.get(), reference);
  return parse(part_of(handle.get(), CURLUPART_URL));
}

std::string Url::origin() const { return scheme_ + "://" + host_ + ":" + port_; }

bool Url::is_loopback() const {
  if (host_ == "localhost" || host_ == "[::1]") return true;
  const bool is_ipv4 =
      std::all_of(host_.begin(), host_.end(), [](char c) { return (c >= '0' && c <= '9') || c == '.'; });
  return is_ipv4 && host_.starts_with("127.") && std::count(host_.begin(), host_.end(), '.') == 3;
}

namespace {

std::string encode(std::string_view text, std::string_view kept) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~").find(c) != std::string_view::npos ||
                       kept.find(c) != kept.npos;
    if (plain)
      result += c;
    else
      result += {'%', kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return result;
}

}  // namespace

std::string percent_encode(std::string_view text) { return encode(text, ""); }
std::string percent_encode_path(std::string_view path) { return encode(path, "/"); }

}  // namespace neutrino::net
