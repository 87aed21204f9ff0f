#include "weights/hub/remote.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/random.h"

namespace neutrino::weights {
namespace fs = std::filesystem;
namespace {

constexpr const char* kDefaultHub = "https://huggingface.co";

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

fs::path hugging_face_home() {
  if (const auto home = variable("HF_HOME"); !home.empty()) return home;
  const auto cache = variable("XDG_CACHE_HOME");
  return (cache.empty() ? fs::path(variable("HOME")) / ".cache" : fs::path(cache)) / "huggingface";
}

std::string first_line(std::string_view text) {
  text = text.substr(0, text.find_first_of("\r\n"));
  const auto first = text.find_first_not_of(" \t");
  if (first == text.npos) return "";
  return std::string(text.substr(first, text.find_last_not_of(" \t") - first + 1));
}

std::string token_of_environment() {
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
    if (auto token = first_line(variable(name)); !token.empty()) return token;
  const auto named = variable("HF_TOKEN_PATH");
  const fs::path path = named.empty() ? hugging_face_home() / "token" : fs::path(named);
  std::error_code ignored;
  return fs::is_regular_file(path, ignored) ? read_token_file(path) : "";
}

}  // namespace

std::string read_token_file(const fs::path& path) {
  constexpr size_t kTokenBytesMax = 16 << 10;
  const std::string token = first_line(read_file(path, kTokenBytesMax));
  if (token.empty())
    throw make_error(ErrorCode::invalid_argument, "{} must hold a token in its first line", path.string());
  return token;
}

HubSettings HubSettings::from_environment() {
  const auto endpoint = variable("HF_ENDPOINT");
  const auto cache = variable("HF_HUB_CACHE");
  HubSettings settings{.hub = net::Url::parse(endpoint.empty() ? kDefaultHub : endpoint)};
  net::require_fetchable(settings.hub);
  settings.token = token_of_environment();
  settings.cache = cache.empty() ? hugging_face_home() / "hub" : fs::path(cache);
  settings.oci_credentials = variable("NEUTRINO_OCI_CREDENTIALS");
  return settings;
}

// ---- patience

void Patience::reset() { *this = Patience(retries_); }

bool Patience::wait(std::optional<int64_t> retry_after_s) {
  if (left_-- <= 0 || retry_after_s.value_or(0) > limits::kFetchRetryAfterSeconds) return false;
  const auto jitter = std::chrono::milliseconds(system_entropy() % static_cast<uint64_t>(next_.count()));
  std::this_thread::sleep_for(std::max<std::chrono::milliseconds>(
      next_ / 2 + jitter, std::chrono::seconds(retry_after_s.value_or(0))));
  next_ = std::min<std::chrono::milliseconds>(2 * next_, std::chrono::seconds(30));
  return true;
}

bool is_passing_status(int status) {
  return status == 408 || status == 429 || status == 500 || (status >= 502 && status <= 504);
}

std::optional<int64_t> retry_after_s(const net::FetchResponse& response) {
  const auto text = response.headers.find("retry-after");
  int64_t seconds = 0;
  if (!text || std::from_chars(text->data(), text->data() + text->size(), seconds).ec != std::errc{} ||
      seconds < 0)
    return std::nullopt;
  return seconds;
}

std::string status_text(const net::FetchResponse& response) {
  return fmt::format("{} answers {} to {}", response.url.host(), response.status, response.url.path());
}

net::FetchResponse get_patiently(net::Fetcher& fetcher, const net::FetchRequest& request, int64_t retries,
                                 PullObserver& observer) {
  Patience patience(retries);
  for (;;) try {
      net::FetchResponse response = fetcher.get(request);
      if (!is_passing_status(response.status)) return response;
      observer.note(fmt::format("{}: trying again", status_text(response)));
      if (!patience.wait(retry_after_s(response)))
        throw make_error(ErrorCode::unavailable, "{}: try again later", status_text(response));
    } catch (const Error& error) {
      if (!net::is_passing(error)) throw;
      observer.note(fmt::format("{}: trying again", error.message()));
      if (!patience.wait()) throw;
    }
}

}  // namespace neutrino::weights
