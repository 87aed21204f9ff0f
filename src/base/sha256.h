// SHA-256 (FIPS 180-4) by OpenSSL: blobs in the store, prefix hashes of KV blocks, fingerprints.
#pragma once

#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace neutrino {

using Sha256Digest = std::array<uint8_t, 32>;

class Sha256 {
 public:
  Sha256();
  void update(std::span<const std::byte> bytes);
  void update(std::string_view text) { update(std::as_bytes(std::span(text.data(), text.size()))); }
  Sha256Digest finish();  // and starts afresh, without allocating

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

Sha256Digest sha256(std::string_view bytes);
std::string to_hex(std::span<const uint8_t> bytes);

}  // namespace neutrino
