#include "cloud/gateway_headers.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace neutrino::cloud {
namespace {

template <size_t N>
bool is_among(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

template <size_t N>
bool ends_with_any(std::string_view path, const std::array<std::string_view, N>& ends) {
  return std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return path.ends_with(end); });
}

bool is_hop_by_hop(std::string_view name) {
  constexpr std::array<std::string_view, 9> kNames = {
      "connection",     "keep-alive",          "transfer-encoding", "te", "trailer", "upgrade",
      "content-length", "proxy-authorization", "proxy-connection"};
  return is_among(name, kNames);
}

}  // namespace

bool is_json_type(std::string_view content_type) {
  constexpr std::string_view kJson = "application/json";
  return content_type.size() >= kJson.size() &&
         std::equal(kJson.begin(), kJson.end(), content_type.begin(),
                    [](char a, unsigned char b) { return a == std::tolower(b); });
}

// An answer that is compressed could not be metered.
bool goes_upstream(std::string_view name) {
  constexpr std::array<std::string_view, 9> kNot = {"host",         "authorization", "x-api-key",
                                                    "x-request-id", "origin",        "accept-encoding",
                                                    "expect",       "cookie",        "x-neutrino-usage-id"};
  return !is_hop_by_hop(name) && !is_among(name, kNot);
}

bool goes_downstream(std::string_view name) {
  constexpr std::array<std::string_view, 5> kNot = {"date", "content-type", "x-request-id",
                                                    "x-content-type-options", "server"};
  return !is_hop_by_hop(name) && !name.starts_with("x-ratelimit-") && !is_among(name, kNot);
}

bool is_generating(std::string_view path) {
  constexpr std::array<std::string_view, 4> kEnds = {"/chat/completions", "/completions", "/messages",
                                                     "/responses"};
  return ends_with_any(path, kEnds);
}

bool is_computing(std::string_view path) {
  constexpr std::array<std::string_view, 9> kEnds = {"/embeddings",  "/tokenize",     "/detokenize",
                                                     "/rerank",      "/score",        "/classify",
                                                     "/moderations", "/count_tokens", "/input_tokens"};
  return is_generating(path) || ends_with_any(path, kEnds);
}

}  // namespace neutrino::cloud
