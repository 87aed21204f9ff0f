// Models that neutrino keeps: files named by their SHA-256, and a manifest for each name.
//
//   models/blobs/sha256-<hex>      the files, never written to once they are there
//   models/manifests/<name>.json   what a name stands for: one file or several; several names may stand for one blob
//   models/views/<sha256>/         of a model of several files: a folder of links with the names they have there
//   models/tmp/import-<random>     a copy under way, locked by the process that makes it
//   models/partial/                downloads under way or broken off (hub/partial_file.h)
//   models/lock                    held while something is published or removed
//
// A model is there when its manifest is, and the manifest is renamed into place last; so a process may be killed at any point
// and the store is either as before or as after. What a killed process leaves behind (a copy in tmp, a blob without a
// manifest) is removed by the next import; what it had downloaded is kept, so that the next pull goes on from there. A loaded
// model holds a shared lock on its blobs, so that rm can say "in use".
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
#include "weights/store_files.h"
#include "weights/weight_file.h"

namespace neutrino::weights {

struct ImportOptions {
  std::optional<ModelName> name;  // else the file's name without its extension, or the folder's
  std::string source;             // else the absolute path
  Progress progress = {};
};

// A whole and checked file somewhere in the store's folder, that is to become a blob.
struct StagedFile {
  std::string name;  // in the model
  BlobDigest digest;
  int64_t bytes = 0;
  std::filesystem::path path = {};  // empty: the blob is there already, and locked
  FileDescriptor* lock = nullptr;   // let go of once the file has its place, before the model has its name
};
struct TakeOptions {
  std::string source;
  License license = {};  // where the files themselves do not say
};

// A weight file ready to be loaded, with what is known about it.
struct OpenModel {
  std::string name;  // in the store, or the file's name without its extension
  std::string
      digest;  // SHA-256 in hex: of the blob; of a path's name, size and times, which is cheaper and says as much here
  ModelFacts facts;
  std::optional<Manifest> manifest;  // empty: a file that the user named
  std::unique_ptr<WeightFile> file;
  std::vector<FileDescriptor>
      use;  // keep them as long as the model: their shared locks are what "in use" means
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

  // Copies a GGUF file (of a split one all parts) or a checkpoint folder in and gives it a name. Importing the same bytes under
  // the same name again changes nothing.
  Manifest import(const std::filesystem::path& path, const ImportOptions& options);
  // Makes the folders and removes what dead processes left. To be called before anything is staged.
  void prepare() const;
  // Checks that the files are one model that opens, and puts them under the name; moves or removes the staged files. Throws
  // Error{already_exists} if the name stands for other bytes.
  Manifest take(const ModelName& name, const std::vector<StagedFile>& files, const TakeOptions& options);
  // The blob, if it is there and its bytes have that digest: all of it is read. Locked against removal.
  std::optional<FileDescriptor> hold_blob(const BlobDigest& digest) const;
  StoreListing list() const;
  bool has(const ModelName& name) const;
  Manifest show(const ModelName& name) const;
  OpenModel open(const ModelName& name) const;  // verifies a blob that was touched since it last was
  void verify(const ModelName& name,
              const Progress& progress = {}) const;   // reads all of it; throws Error{data_loss}
  bool is_untouched(const Manifest& manifest) const;  // no blob was written to since it was last verified
  void remove(const ModelName& name);                 // throws Error{failed_precondition}: it is in use

  std::filesystem::path blob_path(const BlobDigest& digest) const {
    return folder_ / "blobs" / ("sha256-" + digest.hex());
  }
  std::filesystem::path manifest_path(const ModelName& name) const {
    return folder_ / "manifests" / (name.text() + ".json");
  }

  std::filesystem::path view_path(const BlobDigest& digest) const { return folder_ / "views" / digest.hex(); }
  std::filesystem::path partial_folder() const { return folder_ / "partial"; }
  const std::filesystem::path& folder() const { return folder_; }

 private:
  void check_folders() const;
  void clean() const;
  FileDescriptor lock() const;
  std::optional<Manifest> find_same(const Manifest& wanted) const;
  ModelFacts check_staged(const std::vector<StagedFile>& files) const;
  Manifest publish(const std::vector<StagedFile>& files, Manifest manifest) const;
  void write_manifest(const Manifest& manifest) const;
  void remember_verified(const Manifest& manifest) const;
  FileDescriptor look_again(const Manifest& manifest, const std::filesystem::path& path) const;
  FileDescriptor use_blob(const Manifest& manifest, const ModelFile& file) const;
  void check_digest(const FileDescriptor& blob, const Manifest& manifest, const ModelFile& file,
                    const Progress& progress) const;
  std::filesystem::path open_path(const Manifest& manifest) const;
  void make_view(const Manifest& manifest) const;
  void remove_view(const BlobDigest& digest) const;

  std::filesystem::path folder_;
};

// $NEUTRINO_HOME/models.
std::filesystem::path store_folder();

// The model's files at a path that a person gave: a file, all parts of a split one, the files of a checkpoint folder. Links are
// followed, but only to what lies in the folder itself or, for a snapshot of the Hugging Face cache, in that cache's blobs.
struct SourceFile {
  std::string name;
  std::filesystem::path path;
};
std::vector<SourceFile> files_of_model(const std::filesystem::path& path);

// The facts of a model in a folder: where the weights do not say the licence, the model card (README.md) may.
ModelFacts read_facts(const WeightFile& file, const std::filesystem::path& folder);

// What a person means by MODEL: a path if it has a '/' or ends in ".gguf", else a name in the store.
OpenModel resolve_model(const Store& store, std::string_view name_or_path);

}  // namespace neutrino::weights
