// The texts that people and programs prove themselves with: API keys, session tokens, one-time keys.
//
//   nk-  d3k8…(32 random characters, 160 bits)  7hq2mw (checksum)
//
// The checksum is part of the SHA-256 of all before it: a typo, a cut or a foreign string is told at once, without the database. It
// proves nothing; that is what the digest in the database is for. 160 random bits cannot be guessed or found by hashing, so a plain
// SHA-256 of the whole is enough to keep.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace neutrino::cloud {

enum class KeyKind : uint8_t { api_key, session, one_time };
// What the texts of a kind begin with.
constexpr std::array<std::string_view, 3> enum_names(KeyKind) { return {"nk-", "ns-", "no-"}; }

struct NewKey {
  std::string text;    // shown once, kept nowhere
  std::string prefix;  // its first characters, to tell keys apart
  std::string digest;  // what is kept: see key_digest()
};
NewKey make_key(KeyKind kind);

// Of which kind a text is; nullopt: none of ours, or mistyped.
std::optional<KeyKind> key_kind(std::string_view text);

// SHA-256 as 64 hex digits.
std::string key_digest(std::string_view text);

// In a time that does not depend on where they differ.
bool equal_in_constant_time(std::string_view a, std::string_view b);

// `count` characters of 5 random bits each, none of which is taken for another.
std::string random_text(int64_t count);

}  // namespace neutrino::cloud
