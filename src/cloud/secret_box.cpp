#include "cloud/secret_box.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"
#include "base/sha256.h"
#include "cloud/base64url.h"
#include "cloud/limits.h"

namespace neutrino::cloud {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kVersion = "v1.";
constexpr size_t kNameBytes = 4;  // of a key's name, in the text as hex
constexpr size_t kNonceBytes = 12;
constexpr size_t kTagBytes = 16;

struct FreeCipher {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Cipher = std::unique_ptr<EVP_CIPHER_CTX, FreeCipher>;

unsigned char* bytes_of(std::string& text) { return reinterpret_cast<unsigned char*>(text.data()); }
const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

// A new key under a name that nobody sees, then linked: of two processes that start at once, one's key stays.
void make_key_file(const fs::path& path) {
  std::array<unsigned char, 32> key{};
  check(RAND_bytes(key.data(), static_cast<int>(key.size())) == 1, "OpenSSL gives no random bytes");
  fs::path temporary = path;
  temporary += fmt::format(".{:016x}", system_entropy());
  write_file_atomic(temporary, to_hex(key) + "\n", 0600);
  OPENSSL_cleanse(key.data(), key.size());
  const bool linked = ::link(temporary.c_str(), path.c_str()) == 0 || errno == EEXIST;
  const Error failed = system_error("create", path);
  ::unlink(temporary.c_str());
  if (!linked) throw failed;
  sync_folder(path.parent_path());
}

std::optional<int> hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return std::nullopt;
}

std::optional<std::array<unsigned char, 32>> parse_key(std::string_view hex) {
  std::array<unsigned char, 32> key{};
  if (hex.size() != 2 * key.size()) return std::nullopt;
  for (size_t i = 0; i < key.size(); ++i) {
    const auto high = hex_value(hex[2 * i]), low = hex_value(hex[2 * i + 1]);
    if (!high || !low) return std::nullopt;
    key[i] = static_cast<unsigned char>(*high << 4 | *low);
  }
  return key;
}

Error does_not_open() {
  return Error(ErrorCode::data_loss, "a sealed value does not open: it was changed, or belongs elsewhere");
}

}  // namespace

void require_private_file(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw system_error("stat", path);
  if ((status.st_mode & 077) == 0) return;
  throw make_error(ErrorCode::permission_denied,
                   "{} holds a secret and is open to others (mode {:o}): chmod 600 it", path.string(),
                   status.st_mode & 0777);
}

std::string secret_context(std::string_view workspace, std::string_view id) {
  return fmt::format("{}/{}", workspace, id);
}

SecretBox::SecretBox(const fs::path& key_file) {
  if (!fs::exists(key_file)) make_key_file(key_file);
  require_private_file(key_file);
  std::string text = read_file(key_file, static_cast<size_t>(limits::kSecretKeyFileBytes));
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.empty()) continue;
    const auto key = parse_key(line);
    if (!key)
      throw make_error(ErrorCode::invalid_argument, "{} must have 64 lower-case hex digits a line",
                       key_file.string());
    const Sha256Digest digest = sha256({reinterpret_cast<const char*>(key->data()), key->size()});
    keys_.push_back({.bytes = *key, .name = to_hex(std::span(digest).first(kNameBytes))});
  }
  OPENSSL_cleanse(text.data(), text.size());
  if (keys_.empty()) throw make_error(ErrorCode::invalid_argument, "{} has no key", key_file.string());
}

SecretBox::~SecretBox() {
  for (Key& key : keys_) OPENSSL_cleanse(key.bytes.data(), key.bytes.size());
}

// v1.KEY.base64url(nonce ‖ what is enciphered ‖ tag)
std::string SecretBox::seal(std::string_view plain, std::string_view context) const {
  const Key& key = keys_.front();
  std::string sealed(kNonceBytes + plain.size() + kTagBytes, '\0');
  unsigned char* const nonce = bytes_of(sealed);
  unsigned char* const body = nonce + kNonceBytes;
  const Cipher cipher(EVP_CIPHER_CTX_new());
  int size = 0;
  const bool good =
      RAND_bytes(nonce, kNonceBytes) == 1 &&
      EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, key.bytes.data(), nonce) == 1 &&
      EVP_EncryptUpdate(cipher.get(), nullptr, &size, bytes_of(context), static_cast<int>(context.size())) ==
          1 &&
      EVP_EncryptUpdate(cipher.get(), body, &size, bytes_of(plain), static_cast<int>(plain.size())) == 1 &&
      EVP_EncryptFinal_ex(cipher.get(), body + plain.size(), &size) == 1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, body + plain.size()) == 1;
  check(good, "OpenSSL does not encipher");
  return fmt::format("{}{}.{}", kVersion, key.name, to_base64url(sealed));
}

std::string SecretBox::open(std::string_view sealed, std::string_view context) const {
  constexpr size_t kHead = kVersion.size() + 2 * kNameBytes + 1;
  if (!sealed.starts_with(kVersion) || sealed.size() < kHead || sealed[kHead - 1] != '.')
    throw does_not_open();
  const std::string_view name = sealed.substr(kVersion.size(), 2 * kNameBytes);
  const auto key = std::find_if(keys_.begin(), keys_.end(), [&](const Key& k) { return k.name == name; });
  if (key == keys_.end())
    throw make_error(ErrorCode::data_loss, "the key file has not the key {} that a value was sealed with",
                     name);
  std::optional<std::string> bytes = from_base64url(sealed.substr(kHead));
  if (!bytes || bytes->size() < kNonceBytes + kTagBytes) throw does_not_open();
  std::string plain(bytes->size() - kNonceBytes - kTagBytes, '\0');
  unsigned char* const body = bytes_of(*bytes) + kNonceBytes;
  const Cipher cipher(EVP_CIPHER_CTX_new());
  int size = 0;
  const bool good =
      EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, key->bytes.data(), bytes_of(*bytes)) ==
          1 &&
      EVP_DecryptUpdate(cipher.get(), nullptr, &size, bytes_of(context), static_cast<int>(context.size())) ==
          1 &&
      EVP_DecryptUpdate(cipher.get(), bytes_of(plain), &size, body, static_cast<int>(plain.size())) == 1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, body + plain.size()) == 1 &&
      EVP_DecryptFinal_ex(cipher.get(), bytes_of(plain) + plain.size(), &size) == 1;
  if (!good) throw does_not_open();
  return plain;
}

}  // namespace neutrino::cloud
