// HTTP towards strangers: hubs, registries, sign-in providers, any URL that a person typed. libcurl underneath, for its proxies and TLS.
//
// What a stranger can do is bounded here: redirects are followed one by one and counted, from https never to plain http; plain
// http reaches loopback only; credentials go to the origin that they were given for and are dropped for good at the first
// redirect that leaves it; headers, kept bodies and silence have limits. HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE and
// CURL_CA_BUNDLE mean what they mean to curl.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "net/url.h"

namespace neutrino::net {

// Names in lower case, in the order they came.
class FetchHeaders {
 public:
  void add(std::string name, std::string value) { fields_.emplace_back(std::move(name), std::move(value)); }
  std::optional<std::string> find(std::string_view lower_case_name) const;  // the last of that name

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

struct FetchRequest {
  Url url;
  std::vector<std::pair<std::string, std::string>> headers = {};  // sent at every hop: nothing secret
  std::string authorization = {};    // "Bearer ...": sent to the origin of `url` only; empty: none
  int64_t body_bytes_max = 8 << 20;  // of a body that is kept in memory
  std::string method = "GET";
  std::string body = {};     // of a method that has one; its Content-Type is among `headers`
  long timeout_seconds = 0;  // of a hop, to the end of its answer; 0: as long as bytes come
};

struct FetchResponse {
  int status = 0;
  Url url;  // that answered, after the redirects
  FetchHeaders headers;
  FetchHeaders
      first_headers;  // of the first hop: a hub says there what the file is, and redirects to a store
  std::string body;   // empty where a sink took it
};

// Takes a piece of a body whose status is 2xx; may throw, which ends the transfer.
using FetchSink = std::function<void(const FetchResponse& head, std::string_view bytes)>;

// Not for several threads at once: each has its own. Keeps its connections between calls.
class Fetcher {
 public:
  Fetcher();
  ~Fetcher();
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;

  // Any status is an answer. Throws Error{unavailable} with is_passing() when there was none or it broke off, and other errors
  // for what will not pass: a certificate, a redirect loop, a URL that must not be fetched.
  FetchResponse get(const FetchRequest& request, const FetchSink& sink = {});
  // The same with the request's own method. Redirects are followed for GET only; to others they are an answer.
  FetchResponse send(const FetchRequest& request, const FetchSink& sink = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The network failed in a way that another attempt may not meet: no connection, a cut, silence.
bool is_passing(const Error& error);

// Throws Error{invalid_argument} unless the URL is https, or http to loopback.
void require_fetchable(const Url& url);

}  // namespace neutrino::net
