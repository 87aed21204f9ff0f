#include "net/fetch.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstdlib>
#include <exception>

#include "base/limits.h"

namespace neutrino::net {
namespace {

constexpr const char* kPassing = "network";

struct FreeEasy {
  void operator()(CURL* curl) const { curl_easy_cleanup(curl); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using HeaderList = std::unique_ptr<curl_slist, FreeList>;

void start_curl_once() {
  static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
  check(code == CURLE_OK, "libcurl does not start");
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}
bool is_success(int status) { return status >= 200 && status < 300; }

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == text.npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1));
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return result;
}

void append(HeaderList& list, const std::string& name, const std::string& value) {
  const bool clean = std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c <= '~'; });
  if (!clean)  // the value may be a secret
    throw make_error(ErrorCode::invalid_argument, "the value of {} must be printable ASCII on one line",
                     name);
  curl_slist* longer = curl_slist_append(list.get(), fmt::format("{}: {}", name, value).c_str());
  check(longer != nullptr);
  list.release();
  list.reset(longer);
}

// Code and words for what libcurl reports.
Error transfer_error(CURLcode code, const char* details, const Url& url) {
  const std::string what = details && *details ? details : curl_easy_strerror(code);
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
      return make_error(ErrorCode::failed_precondition, "the certificate of {} is not trusted: {}",
                        url.host(), what);
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_PROXY:
      return make_error(ErrorCode::failed_precondition, "the proxy does not work for {}: {}", url.host(),
                        what)
          .with_reason(kPassing);
    default:
      return make_error(ErrorCode::unavailable, "no whole answer from {}: {}", url.host(), what)
          .with_reason(kPassing);
  }
}

}  // namespace

std::optional<std::string> FetchHeaders::find(std::string_view lower_case_name) const {
  for (auto field = fields_.rbegin(); field != fields_.rend(); ++field)
    if (field->first == lower_case_name) return field->second;
  return std::nullopt;
}

bool is_passing(const Error& error) { return error.reason() == kPassing; }

void require_fetchable(const Url& url) {
  if (url.scheme() == "https" || url.is_loopback()) return;
  throw make_error(
      ErrorCode::invalid_argument,
      "{} must be https: plain http is accepted for this machine only (127.0.0.1, ::1, localhost)",
      url.origin());
}

// ---- one hop

// What libcurl's callbacks fill in.
struct Hop {
  const FetchRequest& request;
  const FetchSink& sink;
  FetchResponse& response;
  FetchHeaders headers = {};
  int64_t header_bytes = 0;
  std::exception_ptr failure = {};
};

namespace {

size_t stop_with(Hop& hop, Error error) {
  hop.failure = std::make_exception_ptr(std::move(error));
  return 0;
}

// A status line begins a new set: an answer may follow "100 Continue" or a proxy's own.
size_t on_header(char* data, size_t, size_t bytes, void* context) {
  Hop& hop = *static_cast<Hop*>(context);
  const std::string_view line(data, bytes);
  hop.header_bytes += static_cast<int64_t>(bytes);
  if (hop.header_bytes > limits::kHeaderBytes)
    return stop_with(hop, make_error(ErrorCode::data_loss, "{} sends more than {} bytes of headers",
                                     hop.response.url.host(), limits::kHeaderBytes));
  if (line.starts_with("HTTP/")) {
    hop.headers = {};
    const auto space = line.find(' ');
    hop.response.status = space == line.npos ? 0 : std::atoi(std::string(line.substr(space + 1, 3)).c_str());
  } else if (const auto colon = line.find(':'); colon != line.npos) {
    hop.headers.add(lower(line.substr(0, colon)), trimmed(line.substr(colon + 1)));
  } else if (trimmed(line).empty()) {
    hop.response.headers = hop.headers;
  }
  return bytes;
}

size_t on_body(char* data, size_t, size_t bytes, void* context) {
  Hop& hop = *static_cast<Hop*>(context);
  FetchResponse& response = hop.response;
  try {
    if (hop.sink && is_success(response.status)) {
      hop.sink(response, {data, bytes});
      return bytes;
    }
    if (static_cast<int64_t>(response.body.size() + bytes) > hop.request.body_bytes_max)
      throw make_error(ErrorCode::data_loss, "the answer of {} to {} is longer than {} bytes",
                       response.url.host(), response.url.path(), hop.request.body_bytes_max);
    response.body.append(data, bytes);
    return bytes;
  } catch (...) {
    hop.failure = std::current_exception();
    return 0;
  }
}

}  // namespace

struct Fetcher::Impl {
  std::unique_ptr<CURL, FreeEasy> curl;
  char details[CURL_ERROR_SIZE] = {};

  template <typename Value>
  void set(CURLoption option, Value value) {
    const CURLcode code = curl_easy_setopt(curl.get(), option, value);
    check(code == CURLE_OK, curl_easy_strerror(code));
  }

  void set_common() {
    curl_easy_reset(curl.get());  // keeps its connections
    set(CURLOPT_ERRORBUFFER, details);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_PATH_AS_IS, 1L);
    set(CURLOPT_HTTP_CONTENT_DECODING, 0L);
    set(CURLOPT_USERAGENT, "neutrino/" NEUTRINO_VERSION);
    set(CURLOPT_CONNECTTIMEOUT, limits::kFetchConnectSeconds);
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, limits::kFetchSilenceSeconds);
    // A wish: libcurl 7.88 refuses it after a name that could not be resolved.
    curl_easy_setopt(curl.get(), CURLOPT_BUFFERSIZE, 256L << 10);
    set(CURLOPT_HEADERFUNCTION, on_header);
    set(CURLOPT_WRITEFUNCTION, on_body);
    for (const char* name : {"SSL_CERT_FILE", "CURL_CA_BUNDLE"})
      if (const char* file = std::getenv(name); file && *file) set(CURLOPT_CAINFO, file);
  }

  void set_method(const FetchRequest& request) {
    if (request.method == "GET") return;
    set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
    if (request.method == "DELETE" && request.body.empty()) return;
    set(CURLOPT_POSTFIELDS, request.body.data());
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
  }

  void send(const FetchRequest& request, const FetchSink& sink, bool with_authorization,
            FetchResponse& response) {
    set_common();
    set_method(request);
    set(CURLOPT_TIMEOUT, request.timeout_seconds);
    set(CURLOPT_URL, response.url.text().c_str());
    if (response.url.is_loopback()) set(CURLOPT_PROXY, "");  // what is meant for this machine stays on it
    HeaderList headers;
    for (const auto& [name, value] : request.headers) append(headers, name, value);
    if (with_authorization && !request.authorization.empty())
      append(headers, "Authorization", request.authorization);
    set(CURLOPT_HTTPHEADER, headers.get());
    Hop hop{request, sink, response};
    set(CURLOPT_HEADERDATA, &hop);
    set(CURLOPT_WRITEDATA, &hop);
    details[0] = 0;
    const CURLcode code = curl_easy_perform(curl.get());
    if (hop.failure) std::rethrow_exception(hop.failure);
    if (code != CURLE_OK) throw transfer_error(code, details, response.url);
  }
};

Fetcher::Fetcher() : impl_(std::make_unique<Impl>()) {
  start_curl_once();
  impl_->curl.reset(curl_easy_init());
  check(impl_->curl != nullptr);
}
Fetcher::~Fetcher() = default;

// ---- redirects

namespace {

Url redirect_target(const FetchResponse& response, const Url& first) {
  const auto location = response.headers.find("location");
  if (!location)
    throw make_error(ErrorCode::data_loss, "{} answers {} to {} without saying where to", response.url.host(),
                     response.status, response.url.path());
  const Url target = response.url.resolve(*location);
  const bool stays_plain = first.scheme() == "http" && target.is_loopback();
  if (target.scheme() != "https" && !stays_plain)
    throw make_error(ErrorCode::failed_precondition, "{} redirects to {}, which is not https: not followed",
                     response.url.host(), target.origin());
  return target;
}

}  // namespace

FetchResponse Fetcher::get(const FetchRequest& request, const FetchSink& sink) {
  check(request.method == "GET");
  return send(request, sink);
}

FetchResponse Fetcher::send(const FetchRequest& request, const FetchSink& sink) {
  require_fetchable(request.url);
  FetchResponse response{.url = request.url};
  bool at_home = true;  // no redirect has left the origin yet
  for (int hops = 0; hops <= limits::kFetchRedirects; ++hops) {
    at_home = at_home && response.url.origin() == request.url.origin();
    impl_->send(request, sink, at_home, response);
    if (hops == 0) response.first_headers = response.headers;
    if (!is_redirect(response.status) || request.method != "GET") return response;
    Url target = redirect_target(response, request.url);
    response = {.url = std::move(target), .first_headers = std::move(response.first_headers)};
  }
  throw make_error(ErrorCode::failed_precondition, "{} redirects more than {} times: a redirect loop at {}",
                   request.url.host(), limits::kFetchRedirects, response.url.origin());
}

}  // namespace neutrino::net
