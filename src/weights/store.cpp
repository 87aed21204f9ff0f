#include "weights/store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <set>

#include "base/error.h"
#include "base/fault.h"
#include "base/limits.h"
#include "base/log.h"
#include "weights/model_files.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace fs = std::filesystem;
namespace {

constexpr const char* kFolders[] = {"blobs", "manifests", "partial", "tmp", "views"};

Error no_model(const ModelName& name, const fs::path& folder) {
  return make_error(ErrorCode::not_found, "no model named {} is in the store {}", name.text(),
                    folder.string());
}

// What the manifests of a listing need.
struct Needed {
  std::set<BlobDigest> blobs, views;
};
Needed needed_by(const StoreListing& listing, const ModelName* except = nullptr) {
  Needed needed;
  for (const Manifest& model : listing.models) {
    if (except && model.name == *except) continue;
    needed.views.insert(model.digest);
    for (const ModelFile& file : model.files) needed.blobs.insert(file.digest);
  }
  return needed;
}

void remove_if_old(const fs::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return;
  constexpr int64_t kDay = 24 * 3600;
  if (std::time(nullptr) - status.st_mtim.tv_sec > limits::kPartialDays * kDay) remove_if_unlocked(path);
}

}  // namespace

// ---- folders and locks

void Store::prepare() const {
  for (const char* name : kFolders) make_folders(folder_ / name);
  check_folders();
  clean();
}

// Removes what killed imports left behind. While a manifest is broken, every blob may be one that it names.
void Store::clean() const {
  const FileDescriptor held = lock();
  const StoreListing listing = list();
  for (const fs::path& path : files_in(folder_ / "tmp"))
    if (path.filename().string().starts_with("import-")) remove_if_unlocked(path);
  for (const fs::path& path : files_in(folder_ / "manifests"))
    if (path.filename().string().starts_with('.')) ::unlink(path.c_str());
  for (const fs::path& path : files_in(folder_ / "partial")) remove_if_old(path);
  if (!listing.broken.empty()) return;
  std::set<fs::path> kept;
  const Needed needed = needed_by(listing);
  for (const BlobDigest& digest : needed.blobs) kept.insert(blob_path(digest));
  for (const BlobDigest& digest : needed.views) kept.insert(view_path(digest));
  for (const char* name : {"blobs", "views"})
    for (const fs::path& path : files_in(folder_ / name))
      if (!kept.contains(path)) remove_if_unlocked(path);
}

// The store itself may be a link that its owner made; inside it, nothing is.
void Store::check_folders() const {
  for (const char* name : kFolders)
    if (fs::is_symlink(fs::symlink_status(folder_ / name)))
      throw make_error(ErrorCode::failed_precondition, "{} must be a folder, got a link",
                       (folder_ / name).string());
}

FileDescriptor Store::lock() const {
  FileDescriptor fd = open_file(folder_ / "lock", O_RDWR | O_CREAT | O_NOFOLLOW);
  wait_for_lock(fd, Lock::exclusive, folder_ / "lock");
  return fd;
}

// ---- reading

bool Store::has(const ModelName& name) const {
  return fs::symlink_status(manifest_path(name)).type() != fs::file_type::not_found;
}

StoreListing Store::list() const {
  check_folders();
  StoreListing listing;
  for (const fs::path& path : files_in(folder_ / "manifests")) {
    if (path.extension() != ".json" || !ModelName::is_valid(path.stem().string())) continue;
    const ModelName name = ModelName::parse(path.stem().string());
    try {
      listing.models.push_back(show(name));
    } catch (const Error& error) {
      if (has(name))
        listing.broken.push_back({path.string(), error.message()});  // else it was removed while we looked
    }
  }
  return listing;
}

Manifest Store::show(const ModelName& name) const {
  check_folders();
  if (!has(name)) throw no_model(name, folder_);
  constexpr size_t kManifestBytesMax = 1 << 20;
  return parse_manifest(name, read_file(manifest_path(name), kManifestBytesMax, Links::refuse));
}

namespace {

FileDescriptor open_blob(const fs::path& path) {
  return FileDescriptor(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
}

}  // namespace

// A blob that is not there although its manifest was read: removed in between, removed and brought back, or lost. With the lock
// nothing is on its way.
FileDescriptor Store::look_again(const Manifest& manifest, const fs::path& path) const {
  FileDescriptor held;
  try {
    held = lock();
  } catch (const Error&) {  // a store that cannot be written to: nobody removes anything in it
  }
  if (!has(manifest.name)) throw no_model(manifest.name, folder_);
  FileDescriptor fd = open_blob(path);
  if (!fd && errno == ENOENT)
    throw make_error(ErrorCode::data_loss, "the weights of model {} are missing: {}", manifest.name.text(),
                     path.string());
  return fd;
}

// The blob, opened and locked against removal.
FileDescriptor Store::use_blob(const Manifest& manifest, const ModelFile& file) const {
  const fs::path path = blob_path(file.digest);
  FileDescriptor fd = open_blob(path);
  if (!fd && errno == ENOENT) fd = look_again(manifest, path);
  if (!fd) throw system_error("open", path);
  if (!try_lock(fd, Lock::shared) || status_of(fd, path).st_nlink == 0)
    throw make_error(ErrorCode::not_found, "model {} is being removed", manifest.name.text());
  return fd;
}

void Store::check_digest(const FileDescriptor& blob, const Manifest& manifest, const ModelFile& file,
                         const Progress& progress) const {
  const fs::path path = blob_path(file.digest);
  const int64_t bytes = status_of(blob, path).st_size;
  if (bytes != file.bytes)
    throw make_error(ErrorCode::data_loss,
                     "the weights of model {} are damaged: {} must have {} bytes, has {}",
                     manifest.name.text(), path.string(), file.bytes, bytes);
  const BlobDigest digest = hash_file(blob, path, progress);
  if (digest != file.digest)
    throw make_error(ErrorCode::data_loss, "the weights of model {} are damaged: {} has sha256 {}",
                     manifest.name.text(), path.string(), digest.hex());
}

void Store::verify(const ModelName& name, const Progress& progress) const {
  const Manifest manifest = show(name);
  int64_t before = 0;
  for (const ModelFile& file : manifest.files) {
    const auto part = [&](int64_t done, int64_t) { progress(before + done, manifest.bytes); };
    check_digest(use_blob(manifest, file), manifest, file, progress ? Progress(part) : Progress());
    before += file.bytes;
  }
}

bool Store::is_untouched(const Manifest& manifest) const {
  return std::all_of(manifest.files.begin(), manifest.files.end(), [&](const ModelFile& file) {
    struct stat status {};
    return ::lstat(blob_path(file.digest).c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
           status.st_size == file.bytes && blob_state(status) == file.verified;
  });
}

OpenModel Store::open(const ModelName& name) const {
  Manifest manifest = show(name);
  std::vector<FileDescriptor> use;
  bool touched = false;
  for (ModelFile& file : manifest.files) {
    use.push_back(use_blob(manifest, file));
    const auto state = blob_state(status_of(use.back(), blob_path(file.digest)));
    if (state == file.verified) continue;
    check_digest(use.back(), manifest, file, {});
    file.verified = state;
    touched = true;
  }
  if (touched) remember_verified(manifest);
  auto file =
      open_weight_file(open_path(manifest), manifest.files.size() == 1 ? Links::refuse : Links::follow);
  OpenModel model{name.text(), manifest.digest.hex(), manifest.facts, {}, std::move(file), std::move(use)};
  model.manifest = std::move(manifest);
  return model;
}

// Only saves the next open() the reading: a store that cannot be written to is no reason to fail.
void Store::remember_verified(const Manifest& manifest) const {
  try {
    const FileDescriptor held = lock();
    if (show(manifest.name).digest == manifest.digest) write_manifest(manifest);
  } catch (const Error& error) {
    spdlog::warn("cannot note that a model was verified name={} error={}", manifest.name.text(),
                 error.message());
  }
}

// ---- removal

namespace {

// The blobs that only this model needs. None while a manifest is broken, this one or another: it may name them too.
std::vector<BlobDigest> unshared_blobs(const ModelName& name, const StoreListing& listing) {
  std::set<BlobDigest> own;
  const Needed others = needed_by(listing, &name);
  for (const Manifest& model : listing.models)
    for (const ModelFile& file : model.files)
      if (model.name == name && !others.blobs.contains(file.digest)) own.insert(file.digest);
  if (!listing.broken.empty()) return {};
  return {own.begin(), own.end()};
}

}  // namespace

void Store::remove(const ModelName& name) {
  check_folders();
  if (!has(name)) throw no_model(name, folder_);
  const FileDescriptor held = lock();
  const StoreListing listing = list();
  const std::vector<BlobDigest> blobs = unshared_blobs(name, listing);
  std::vector<FileDescriptor> alone;
  for (const BlobDigest& digest : blobs) {
    alone.emplace_back(::open(blob_path(digest).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (alone.back() && !try_lock(alone.back(), Lock::exclusive))
      throw make_error(ErrorCode::failed_precondition,
                       "model {} is in use by a running process: stop it first", name.text())
          .with_reason("model_in_use");
  }
  remove_file(manifest_path(name));
  sync_folder(folder_ / "manifests");
  fault_point("store_removed");
  for (const BlobDigest& digest : blobs) remove_file(blob_path(digest));
  for (const Manifest& model : listing.models)
    if (model.name == name && !needed_by(listing, &name).views.contains(model.digest))
      remove_view(model.digest);
}

// ---- what a person types

fs::path store_folder() { return neutrino_home() / "models"; }

namespace {

// What names the bytes at a path without reading them.
std::string state_of_files(const fs::path& path) {
  std::string state = fs::canonical(path).string();
  for (const SourceFile& file : files_of_model(path)) {
    const auto status = status_of(open_file(file.path, O_RDONLY), file.path);
    state += fmt::format("\n{}:{}:{}", file.name, status.st_size, blob_state(status));
  }
  return state;
}

OpenModel open_named_path(const fs::path& path) {
  auto file = open_weight_file(path);
  const bool is_folder = fs::is_directory(path);
  const fs::path canonical = fs::canonical(path);
  return {.name = is_folder ? canonical.filename().string() : path.stem().string(),
          .digest = to_hex(sha256(state_of_files(path))),
          .facts = is_folder ? read_facts(*file, canonical) : read_facts(*file),
          .manifest = {},
          .file = std::move(file),
          .use = {}};
}

}  // namespace

OpenModel resolve_model(const Store& store, std::string_view name_or_path) {
  if (name_or_path.find('/') != name_or_path.npos || name_or_path.ends_with(".gguf"))
    return open_named_path(name_or_path);
  return store.open(ModelName::parse(name_or_path));
}

}  // namespace neutrino::weights
