// Who may speak to the server at all: host names, browser origins, and where it may listen. API keys: api_keys.h.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/request.h"

namespace neutrino::net {

// The host names under which the server answers. A web page that rebinds its own name to 127.0.0.1 still sends that name.
class HostNames {
 public:
  // Loopback names, `bound`, and `configured`. Bound to a wildcard address, any IP literal is good: it cannot be rebound.
  HostNames(std::string_view bound, std::vector<std::string> configured);
  bool allows(std::string_view host_header) const;  // with or without a port

 private:
  std::vector<std::string> names_;
  bool any_address_ = false;
};

// Throws Error for a request that came under a foreign host name (421) or from a foreign web page (403). `origins`: the
// allowed values of Origin; a page of this very host and port is always allowed.
void check_browser_rules(const Request& request, const HostNames& hosts,
                         const std::vector<std::string>& origins);

// What a browser must hear before it hands an answer to a web page of another origin (CORS, https://fetch.spec.whatwg.org);
// empty unless the request comes from one of `origins`.
std::vector<Header> cors_headers(const Request& request, const std::vector<std::string>& origins);

// A browser's question whether such a page may send a request at all. It comes without a key.
bool is_preflight(const Request& request);

// A non-loopback address needs a key (or clients with certificates), and TLS or the explicit wish to do without; throws
// Error{invalid_argument}.
struct BindPolicy {
  bool has_key = false;
  bool has_tls = false;
  bool has_client_ca = false;
  bool insecure_no_tls = false;
};
void check_bind(std::string_view host, BindPolicy policy);

}  // namespace neutrino::net
