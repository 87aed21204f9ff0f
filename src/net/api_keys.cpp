#include "net/api_keys.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "net/limits.h"
#include "net/presented_key.h"

namespace neutrino::net {
namespace {

constexpr std::string_view kHashPrefix = "sha256:";

constexpr std::pair<std::string_view, Scope> kScopes[] = {
    {"inference", Scope::inference}, {"metrics", Scope::metrics}, {"admin", Scope::admin}};

Error bad(std::string message) { return Error(ErrorCode::invalid_argument, std::move(message)); }

bool is_bearer(std::string_view scheme) {
  constexpr std::string_view kBearer = "bearer";
  return std::equal(scheme.begin(), scheme.end(), kBearer.begin(), kBearer.end(),
                    [](unsigned char a, char b) { return std::tolower(a) == b; });
}

bool is_printable(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 127; });
}

// The next word of a line; empty at its end or at a comment.
std::string_view next_word(std::string_view& line) {
  line.remove_prefix(std::min(line.find_first_not_of(" \t\r"), line.size()));
  if (line.starts_with('#')) line = {};
  const std::string_view word = line.substr(0, line.find_first_of(" \t\r"));
  line.remove_prefix(word.size());
  return word;
}

std::optional<int> hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return std::nullopt;
}

Sha256Digest parse_digest(std::string_view hex) {
  Sha256Digest digest{};
  if (hex.size() != 2 * digest.size())
    throw bad(fmt::format("sha256: needs {} hex digits, got {}", 2 * digest.size(), hex.size()));
  for (size_t i = 0; i < digest.size(); ++i) {
    const auto high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
    if (!high || !low) throw bad("sha256: needs hex digits only");
    digest[i] = static_cast<uint8_t>(*high << 4 | *low);
  }
  return digest;
}

Scopes parse_scopes(std::string_view list) {
  Scopes scopes;
  while (true) {
    const std::string_view word = list.substr(0, list.find(','));
    const auto* found = std::find_if(std::begin(kScopes), std::end(kScopes),
                                     [&](const auto& scope) { return scope.first == word; });
    if (found == std::end(kScopes))
      throw bad(fmt::format("a scope must be inference, metrics or admin, got \"{:.40}\"", word));
    scopes = scopes.with(found->second);
    if (word.size() == list.size()) return scopes;
    list.remove_prefix(word.size() + 1);
  }
}

int64_t parse_count(std::string_view name, std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1 || value > limits::kPerMinute)
    throw bad(fmt::format("{} must be 1-{}, got \"{:.40}\"", name, limits::kPerMinute, text));
  return value;
}

void parse_option(std::string_view word, ApiKey& key) {
  const size_t equals = std::min(word.find('='), word.size());
  const std::string_view name = word.substr(0, equals);
  const std::string_view value = equals < word.size() ? word.substr(equals + 1) : std::string_view();
  if (name == "scopes")
    key.scopes = parse_scopes(value);
  else if (name == "requests_per_minute")
    key.limits.requests_per_minute = parse_count(name, value);
  else if (name == "tokens_per_minute")
    key.limits.tokens_per_minute = parse_count(name, value);
  else
    throw bad(fmt::format(
        "an option must be scopes=, requests_per_minute= or tokens_per_minute=, got \"{:.40}\"", name));
}

// nullopt: an empty line. Messages never hold the key.
std::optional<ApiKey> parse_line(std::string_view line, KeyLimits defaults) {
  ApiKey key{.name = std::string(next_word(line)),
             .digest = {},
             .scopes = Scopes().with(Scope::inference),
             .limits = defaults};
  if (key.name.empty()) return std::nullopt;
  if (key.name.size() > static_cast<size_t>(limits::kKeyNameBytes) || !is_printable(key.name))
    throw bad(fmt::format("a name must be 1-{} printable ASCII characters", limits::kKeyNameBytes));
  const std::string_view secret = next_word(line);
  if (!is_printable(secret))
    throw bad("after the name comes a key of printable ASCII characters, or sha256:<64 hex digits>");
  key.digest =
      secret.starts_with(kHashPrefix) ? parse_digest(secret.substr(kHashPrefix.size())) : sha256(secret);
  for (std::string_view word = next_word(line); !word.empty(); word = next_word(line))
    parse_option(word, key);
  return key;
}

}  // namespace

std::string_view presented_key(const Request& request) {
  const std::string_view authorization = request.header("authorization");
  if (authorization.empty()) return request.header("x-api-key");
  const size_t space = authorization.find(' ');
  if (space == std::string_view::npos || !is_bearer(authorization.substr(0, space))) return {};
  std::string_view key = authorization.substr(space + 1);
  key.remove_prefix(std::min(key.find_first_not_of(' '), key.size()));
  return key;
}

std::string_view peer_address(const Request& request) {
  const std::string_view peer = request.peer;
  return peer.substr(0, peer.rfind(':'));
}

std::string_view scope_name(Scope scope) {
  for (const auto& [name, value] : kScopes)
    if (value == scope) return name;
  return "none";
}

void ApiKeys::add(std::string name, std::string_view key, Scopes scopes, KeyLimits limits) {
  if (!is_printable(key))
    throw make_error(ErrorCode::invalid_argument,
                     "API key \"{}\" must be printable ASCII without spaces, and not empty", name);
  add({.name = std::move(name), .digest = sha256(key), .scopes = scopes, .limits = limits});
}

void ApiKeys::add(ApiKey key) {
  for (const ApiKey& known : keys_) {
    if (known.name == key.name) throw bad(fmt::format("the key name \"{}\" is there twice", key.name));
    if (known.digest == key.digest)
      throw bad(fmt::format("\"{}\" and \"{}\" are the same key", known.name, key.name));
  }
  if (keys_.size() >= static_cast<size_t>(limits::kApiKeys))
    throw bad(fmt::format("at most {} API keys are allowed", limits::kApiKeys));
  keys_.push_back(std::move(key));
}

void ApiKeys::add_file(const std::filesystem::path& path, KeyLimits defaults) {
  const std::string text = read_file(path, static_cast<size_t>(limits::kKeyFileBytes));
  std::string_view rest = text;
  const size_t before = keys_.size();
  for (int number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    try {
      if (auto key = parse_line(line, defaults)) add(std::move(*key));
    } catch (const Error& error) {
      throw make_error(error.code(), "{}:{}: {}", path.string(), number, error.message());
    }
  }
  if (keys_.size() == before) throw make_error(ErrorCode::invalid_argument, "{} has no key", path.string());
}

const ApiKey& ApiKeys::authenticate(const Request& request) const {
  const Sha256Digest digest = sha256(presented_key(request));
  const ApiKey* found = nullptr;
  for (const ApiKey& key : keys_)
    if (CRYPTO_memcmp(key.digest.data(), digest.data(), digest.size()) == 0) found = &key;
  if (!found)
    throw Error(ErrorCode::unauthenticated, "a valid API key is required: Authorization: Bearer KEY")
        .with_reason("invalid_api_key");
  return *found;
}

}  // namespace neutrino::net
