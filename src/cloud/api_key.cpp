#include "cloud/api_key.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "base/error.h"
#include "base/fields.h"
#include "base/sha256.h"

namespace neutrino::cloud {
namespace {

constexpr std::string_view kLetters = "0123456789abcdefghjkmnpqrstvwxyz";  // Crockford's
constexpr size_t kRandomCharacters = 32;
constexpr size_t kChecksumCharacters = 6;
constexpr size_t kShownCharacters = 10;

std::string checksum(std::string_view text) {
  const Sha256Digest digest = sha256(text);
  std::string result;
  for (size_t i = 0; i < kChecksumCharacters; ++i) result += kLetters[digest[i] & 31];
  return result;
}

}  // namespace

std::string random_text(int64_t count) {
  std::string text(static_cast<size_t>(count), '\0');
  check(RAND_bytes(reinterpret_cast<unsigned char*>(text.data()), static_cast<int>(count)) == 1,
        "OpenSSL gives no random bytes");
  for (char& c : text) c = kLetters[static_cast<unsigned char>(c) & 31];
  return text;
}

NewKey make_key(KeyKind kind) {
  NewKey key{.text = std::string(enum_name(kind)) + random_text(kRandomCharacters)};
  key.text += checksum(key.text);
  key.prefix = key.text.substr(0, kShownCharacters);
  key.digest = key_digest(key.text);
  return key;
}

std::optional<KeyKind> key_kind(std::string_view text) {
  constexpr size_t kPrefix = 3;
  if (text.size() != kPrefix + kRandomCharacters + kChecksumCharacters) return std::nullopt;
  const std::string_view checked = text.substr(0, text.size() - kChecksumCharacters);
  if (!text.ends_with(checksum(checked))) return std::nullopt;
  return enum_from_name<KeyKind>(text.substr(0, kPrefix));
}

std::string key_digest(std::string_view text) { return to_hex(sha256(text)); }

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace neutrino::cloud
