// What the store writes down about a model, and the kinds of text that become file names in it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/sha256.h"
#include "weights/license.h"
#include "weights/weight_file.h"

namespace neutrino::weights {

// A model's name in the store: [A-Za-z0-9._-]+, at most 128 characters, no dot in front. As a type, so that a path made of
// one has been checked wherever it is made.
class ModelName {
 public:
  static ModelName parse(std::string_view text);  // throws Error{invalid_argument}
  static bool is_valid(std::string_view text);
  const std::string& text() const { return text_; }
  bool operator==(const ModelName&) const = default;

 private:
  explicit ModelName(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

// A blob's SHA-256: 64 lower-case hexadecimal digits, nothing else.
class BlobDigest {
 public:
  static BlobDigest parse(std::string_view hex);  // throws Error{invalid_argument}
  explicit BlobDigest(const Sha256Digest& digest) : hex_(to_hex(digest)) {}
  const std::string& hex() const { return hex_; }
  auto operator<=>(const BlobDigest&) const = default;

 private:
  explicit BlobDigest(std::string_view hex) : hex_(hex) {}
  std::string hex_;
};

// What a weight file says about its model.
struct ModelFacts {
  std::string architecture;
  std::string quantization;     // the type that holds most of the bytes: "q4_1"
  std::string template_sha256;  // of the chat template's text; empty: it has none
  int64_t parameters = 0;
  License license = {};
};
ModelFacts read_facts(const WeightFile& file);

// One file of a model.
struct ModelFile {
  std::string name;  // as is_file_name() allows
  BlobDigest digest;
  int64_t bytes = 0;
  std::string verified = {};  // the blob's state (inode and times) when its bytes last had the digest
};

// A path below the model's folder: "1_Pooling/config.json". Printable ASCII, '/' between the parts, no part empty or with a dot
// in front (so never "." or ".."), no backslash, at most 512 characters.
bool is_file_name(std::string_view text);

inline constexpr int64_t kManifestFormat = 2;  // 1 knew one file only; it is still read

struct Manifest {
  ModelName name;
  // By name. One GGUF file, or the parts of a split one, or the files of a checkpoint folder.
  std::vector<ModelFile> files;
  BlobDigest digest;  // of the only file; of several: of the list "<sha256>  <name>\n"
  int64_t bytes = 0;  // of all files
  ModelFacts facts = {};
  std::string source = {};   // where it came from
  std::string created = {};  // "2026-01-31T12:00:00Z"
};

// Sorts the files and fills in digest and bytes. Throws Error{invalid_argument} if they cannot be the files of one model: none,
// too many, a name that is not allowed or is there twice.
Manifest make_manifest(const ModelName& name, std::vector<ModelFile> files);

json::object to_json(const ModelFacts& facts);
json::object to_json(const Manifest& manifest);
// Throws Error{data_loss} that says what is wrong with the text.
Manifest parse_manifest(const ModelName& name, std::string_view text);

}  // namespace neutrino::weights
