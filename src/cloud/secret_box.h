// Secrets at rest: AES-256-GCM with a key that lies in a file beside the database, not in it. A copy of the database alone, such as a
// backup, shows no secret.
//
// What is sealed carries the context that it belongs to (its workspace and id) as authenticated data: a sealed text that somebody moves
// to another row, or changes, does not open. The key file has one key of 64 hex digits a line. The first seals, all open; so a key is
// replaced by putting a new line above it.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace neutrino::cloud {

class SecretBox {
 public:
  // Makes the file, readable for its owner only, if there is none. Throws Error{permission_denied} for one that others may read,
  // Error{invalid_argument} for one that holds anything but keys.
  explicit SecretBox(const std::filesystem::path& key_file);
  ~SecretBox();
  SecretBox(const SecretBox&) = delete;
  SecretBox& operator=(const SecretBox&) = delete;

  std::string seal(std::string_view plain, std::string_view context) const;  // printable
  // Throws Error{data_loss} for what was not sealed with this context and one of these keys.
  std::string open(std::string_view sealed, std::string_view context) const;

 private:
  struct Key {
    std::array<unsigned char, 32> bytes{};
    std::string name;  // of which key a text was sealed with
  };
  std::vector<Key> keys_;
};

// Throws Error{permission_denied} if others than its owner may do anything with the file.
void require_private_file(const std::filesystem::path& path);

// The context of a row's sealed field.
std::string secret_context(std::string_view workspace, std::string_view id);

}  // namespace neutrino::cloud
