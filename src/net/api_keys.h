// API keys: who may call which kind of route, and how much. Kept as SHA-256 only, which is enough for random keys.
//
// A key file has one key a line, in fields with blanks between them; '#' starts a comment:
//
//   # name   key, or sha256:<64 hex digits of it>      options
//   app      nk-W8dM2v0nAq7hG3                          requests_per_minute=600 tokens_per_minute=200000
//   scraper  sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae  scopes=metrics
//   ops      sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9  scopes=inference,metrics,admin
//
// Without `scopes` a key is for inference alone. One scope does not imply another.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/sha256.h"
#include "net/request.h"

namespace neutrino::net {

// inference: the model and what is said about it; metrics: scrapes; admin: what changes the server.
enum class Scope : uint8_t { inference = 1, metrics = 2, admin = 4 };

std::string_view scope_name(Scope scope);

struct Scopes {
  uint8_t bits = 0;
  constexpr bool has(Scope scope) const { return (bits & static_cast<uint8_t>(scope)) != 0; }
  constexpr Scopes with(Scope scope) const {
    return {static_cast<uint8_t>(bits | static_cast<uint8_t>(scope))};
  }
};
inline constexpr Scopes kAllScopes{7};

// 0: no limit.
struct KeyLimits {
  int64_t requests_per_minute = 0;
  int64_t tokens_per_minute = 0;
  bool is_unlimited() const { return requests_per_minute <= 0 && tokens_per_minute <= 0; }
};

struct ApiKey {
  std::string name;  // in logs and labels; unique
  Sha256Digest digest;
  Scopes scopes;
  KeyLimits limits;
};

class ApiKeys {
 public:
  // Throws Error{invalid_argument} for an empty or unprintable key, and for a name or a key that is there already.
  void add(std::string name, std::string_view key, Scopes scopes = kAllScopes, KeyLimits limits = {});
  void add(ApiKey key);

  // Adds the keys of a file; lines without limits of their own get `defaults`. Throws Error{invalid_argument} with
  // "path:line: " in front for a line that is not as above, for a file without a key (it would guard nothing), and for an
  // unreadable file.
  void add_file(const std::filesystem::path& path, KeyLimits defaults = {});

  bool empty() const { return keys_.empty(); }
  std::span<const ApiKey> keys() const { return keys_; }

  // The key that the request carries as `Authorization: Bearer` or `x-api-key`; throws Error{unauthenticated}. Every stored
  // key is compared, each in constant time.
  const ApiKey& authenticate(const Request& request) const;

 private:
  std::vector<ApiKey> keys_;
};

}  // namespace neutrino::net
