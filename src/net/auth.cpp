#include "net/auth.h"

#include <boost/asio/ip/address.hpp>

#include <algorithm>
#include <optional>

#include "base/error.h"

namespace neutrino::net {
namespace {

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return result;
}

// "[::1]:8000" -> "::1", "localhost:80" -> "localhost"; empty for what is no host.
std::string host_name(std::string_view host) {
  std::string_view port;
  if (host.starts_with('[')) {
    const size_t close = host.find(']');
    if (close == std::string_view::npos) return {};
    port = host.substr(close + 1);
    host = host.substr(1, close - 1);
  } else if (const size_t colon = host.find(':'); colon != std::string_view::npos) {
    port = host.substr(colon);
    host = host.substr(0, colon);
  }
  const bool port_ok = port.empty() || (port[0] == ':' && port.size() <= 6 &&
                                        std::all_of(port.begin() + 1, port.end(),
                                                    [](char c) { return c >= '0' && c <= '9'; }));
  return port_ok ? lower(host) : std::string();
}

std::optional<boost::asio::ip::address> as_address(std::string_view host) {
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(std::string(host), error);
  if (error) return std::nullopt;
  return address;
}

}  // namespace

HostNames::HostNames(std::string_view bound, std::vector<std::string> configured) {
  names_ = {"localhost", "127.0.0.1", "::1"};
  const auto address = as_address(bound);
  any_address_ = address && address->is_unspecified();
  if (!any_address_) names_.push_back(lower(bound));
  for (const std::string& name : configured) names_.push_back(lower(name));
}

bool HostNames::allows(std::string_view host_header) const {
  const std::string name = host_name(host_header);
  if (name.empty()) return false;
  if (std::find(names_.begin(), names_.end(), name) != names_.end()) return true;
  return any_address_ && as_address(name).has_value();
}

void check_browser_rules(const Request& request, const HostNames& hosts,
                         const std::vector<std::string>& origins) {
  const std::string_view host = request.header("host");
  if (!hosts.allows(host))
    throw make_error(ErrorCode::permission_denied,
                     "the Host \"{:.100}\" is not a name of this server (--allowed-host adds one)", host)
        .with_reason("host_not_allowed");
  const std::string_view origin = request.header("origin");
  if (origin.empty()) return;
  const bool own_page = origin == "http://" + std::string(host) || origin == "https://" + std::string(host);
  if (!own_page && std::find(origins.begin(), origins.end(), origin) == origins.end())
    throw make_error(ErrorCode::permission_denied,
                     "requests from web pages of {:.100} are not allowed (--allowed-origin adds one)", origin)
        .with_reason("origin_not_allowed");
}

std::vector<Header> cors_headers(const Request& request, const std::vector<std::string>& origins) {
  const std::string_view origin = request.header("origin");
  if (std::find(origins.begin(), origins.end(), origin) == origins.end()) return {};
  std::vector<Header> headers = {
      {"Access-Control-Allow-Origin", std::string(origin)},
      {"Vary", "Origin"},
      {"Access-Control-Expose-Headers",
       "*, X-Request-Id, Retry-After, retry-after-ms, x-should-retry, X-Ignored-Params"}};
  if (!is_preflight(request)) return headers;
  headers.push_back(
      {"Access-Control-Allow-Methods", std::string(request.header("access-control-request-method"))});
  headers.push_back(
      {"Access-Control-Allow-Headers", std::string(request.header("access-control-request-headers"))});
  headers.push_back({"Access-Control-Max-Age", "600"});
  return headers;
}

bool is_preflight(const Request& request) {
  return request.method == Method::options && !request.header("origin").empty() &&
         !request.header("access-control-request-method").empty();
}

void check_bind(std::string_view host, BindPolicy policy) {
  const auto address = as_address(host);
  if (lower(host) == "localhost" || (address && address->is_loopback())) return;
  if (!policy.has_key && !policy.has_client_ca)
    throw make_error(
        ErrorCode::invalid_argument,
        "--host {} is not a loopback address: it needs an API key (--api-key, --api-key-file) or client "
        "certificates (--tls-client-ca)",
        host);
  if (!policy.has_tls && !policy.insecure_no_tls)
    throw make_error(ErrorCode::invalid_argument,
                     "--host {} is not a loopback address: keys and prompts would travel in the clear; give "
                     "--tls-cert and "
                     "--tls-key, or say --insecure-no-tls with a TLS proxy in front",
                     host);
}

}  // namespace neutrino::net
