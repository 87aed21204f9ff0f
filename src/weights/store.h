// Models that neutrino keeps: files named by their SHA-256, and a manifest for each name.
//
//   models/blobs/sha256-<hex>      weight files, never written to once they are there
//   models/manifests/<name>.json   what a name stands for; several may stand for one blob
//   models/tmp/import-<random>     a copy under way, locked by the process that makes it
//   models/lock                    held while something is published or removed
//
// A model is there when its manifest is, and the manifest is renamed into place last; so a process may be killed at any point
// and the store is either as before or as after. What a killed process leaves behind (a copy in tmp, a blob without a
// manifest) is removed by the next import. A loaded model holds a shared lock on its blob, so that rm can say "in use".
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "weights/manifest.h"
#include "weights/weight_file.h"

namespace neutrino::weights {

using Progress = std::function<void(int64_t bytes_done, int64_t bytes_total)>;

struct ImportOptions {
  std::optional<ModelName> name;  // else the file's name without its extension
  std::string source;             // else the file's absolute path
  Progress progress = {};
};

// A weight file ready to be loaded, with what is known about it.
struct OpenModel {
  std::string name;  // in the store, or the file's name without its extension
  std::string
      digest;  // SHA-256 in hex: of the blob; of a path's name, size and times, which is cheaper and says as much here
  ModelFacts facts;
  std::optional<Manifest> manifest;  // empty: a file that the user named
  std::unique_ptr<WeightFile> file;
  FileDescriptor use;  // keep it as long as the model: its shared lock is what "in use" means
};

struct BrokenManifest {
  std::string file;
  std::string message;
};

struct StoreListing {
  std::vector<Manifest> models;  // by name
  std::vector<BrokenManifest> broken;
};

class Store {
 public:
  explicit Store(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // Copies the file in and gives it a name. Importing the same bytes under the same name again changes nothing.
  Manifest import(const std::filesystem::path& path, const ImportOptions& options);
  StoreListing list() const;
  bool has(const ModelName& name) const;
  Manifest show(const ModelName& name) const;
  OpenModel open(const ModelName& name) const;  // verifies a blob that was touched since it last was
  void verify(const ModelName& name,
              const Progress& progress = {}) const;  // reads all of it; throws Error{data_loss}
  void remove(const ModelName& name);                // throws Error{failed_precondition}: it is in use

  std::filesystem::path blob_path(const BlobDigest& digest) const {
    return folder_ / "blobs" / ("sha256-" + digest.hex());
  }
  std::filesystem::path manifest_path(const ModelName& name) const {
    return folder_ / "manifests" / (name.text() + ".json");
  }

 private:
  class TemporaryFile;

  void prepare() const;
  void check_folders() const;
  void clean() const;
  FileDescriptor lock() const;
  std::optional<Manifest> find_same(const ModelName& name, const std::filesystem::path& path,
                                    const Progress& progress) const;
  bool holds_blob(const BlobDigest& digest) const;
  Manifest publish(TemporaryFile& copy, Manifest manifest) const;
  void write_manifest(const Manifest& manifest) const;
  void remember_verified(const Manifest& manifest) const;
  FileDescriptor use_blob(const Manifest& manifest) const;
  void check_digest(const FileDescriptor& blob, const Manifest& manifest, const Progress& progress) const;

  std::filesystem::path folder_;
};

// $NEUTRINO_HOME/models.
std::filesystem::path store_folder();

// What a person means by MODEL: a path if it has a '/' or ends in ".gguf", else a name in the store.
OpenModel resolve_model(const Store& store, std::string_view name_or_path);

}  // namespace neutrino::weights
