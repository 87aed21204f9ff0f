#include "weights/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "base/error.h"
#include "base/fault.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace fs = std::filesystem;
namespace {

constexpr const char* kFolders[] = {"blobs", "manifests", "tmp"};

FileDescriptor open_file(const fs::path& path, int flags) {
  FileDescriptor fd(::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK, 0600));
  if (!fd) throw system_error("open", path);
  return fd;
}

struct stat status_of(const FileDescriptor& fd, const fs::path& path) {
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) throw system_error("stat", path);
  return status;
}

void sync_file(const FileDescriptor& fd, const fs::path& path) {
  if (::fsync(fd.get()) != 0) throw system_error("sync", path);
}

void rename_file(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) throw system_error("rename to", to);
}

// An inode's number and times change when somebody writes to it; while they stay, the bytes are those that were verified.
std::string blob_state(const struct stat& status) {
  return fmt::format("{}:{}.{:09}:{}.{:09}", status.st_ino, status.st_mtim.tv_sec, status.st_mtim.tv_nsec,
                     status.st_ctim.tv_sec, status.st_ctim.tv_nsec);
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

// Reads to the end, giving each chunk to `use`.
template <typename Use>
int64_t read_chunks(const FileDescriptor& fd, const fs::path& path, int64_t total, const Progress& progress,
                    Use use) {
  std::string buffer(1 << 20, '\0');
  int64_t done = 0;
  for (;;) {
    const ssize_t got = ::pread(fd.get(), buffer.data(), buffer.size(), done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw system_error("read", path);
    if (got == 0) return done;
    use(std::string_view(buffer.data(), static_cast<size_t>(got)));
    done += got;
    if (progress) progress(done, total);
  }
}

BlobDigest hash_file(const FileDescriptor& fd, const fs::path& path, const Progress& progress) {
  Sha256 hash;
  read_chunks(fd, path, status_of(fd, path).st_size, progress,
              [&](std::string_view chunk) { hash.update(chunk); });
  return BlobDigest(hash.finish());
}

void require_space(const fs::path& folder, int64_t bytes, const fs::path& source) {
  struct statvfs status {};
  if (::statvfs(folder.c_str(), &status) != 0) throw system_error("read the free space of", folder);
  const auto free = static_cast<int64_t>(status.f_bavail * status.f_frsize);
  constexpr int64_t kReserve = 64 << 10;  // manifests and folders
  if (bytes + kReserve <= free) return;
  throw make_error(ErrorCode::resource_exhausted, "{} needs {} in {}, where only {} are free",
                   source.string(), size_text(bytes), folder.string(), size_text(free))
      .with_reason("disk_full");
}

}  // namespace

// A new file in tmp, locked from before anybody could take it for a dead process's, and removed again unless it was kept.
class Store::TemporaryFile {
 public:
  explicit TemporaryFile(const fs::path& folder) {
    do {
      path_ = folder / fmt::format("import-{:016x}", system_entropy());
      fd_ = open_file(path_, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW);
      wait_for_lock(fd_, Lock::exclusive, path_);
    } while (status_of(fd_, path_).st_nlink == 0);  // cleaned away between open and lock
  }
  ~TemporaryFile() {
    if (fd_) ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const fs::path& path() const { return path_; }
  const FileDescriptor& fd() const { return fd_; }
  void keep() { fd_ = FileDescriptor(); }  // and unlocks it

 private:
  fs::path path_;
  FileDescriptor fd_;
};

namespace {

BlobDigest copy_and_hash(const FileDescriptor& from, const fs::path& source, const FileDescriptor& to,
                         const fs::path& copy, const Progress& progress) {
  Sha256 hash;
  read_chunks(from, source, status_of(from, source).st_size, progress, [&](std::string_view chunk) {
    hash.update(chunk);
    write_all(to.get(), chunk, copy);
    fault_point("store_copy");
  });
  return BlobDigest(hash.finish());
}

// The file's structure and vocabulary hold together; refused here, it never gets into the store.
ModelFacts check_weights(const fs::path& path, Links links) {
  const auto file = open_weight_file(path, links);
  file->vocabulary();
  return read_facts(*file);
}

bool is_import(const fs::path& path) { return path.filename().string().starts_with("import-"); }

void remove_if_unlocked(const fs::path& path) {
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (fd && try_lock(fd, Lock::exclusive)) ::unlink(path.c_str());
}

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code failure;
  for (fs::directory_iterator i(folder, failure), end; !failure && i != end; i.increment(failure))
    files.push_back(i->path());
  if (failure && failure != std::errc::no_such_file_or_directory)
    throw make_error(ErrorCode::unavailable, "cannot read folder {}: {}", folder.string(), failure.message());
  std::sort(files.begin(), files.end());
  return files;
}

Error no_model(const ModelName& name, const fs::path& folder) {
  return make_error(ErrorCode::not_found, "no model named {} is in the store {}", name.text(),
                    folder.string());
}

Error name_taken(const Manifest& manifest) {
  return make_error(
      ErrorCode::already_exists,
      "a model named {} with other bytes is in the store: choose another name or remove it first",
      manifest.name.text());
}

void remove_file(const fs::path& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw system_error("remove", path);
}

// The blob that only this model needs. None: others share it, or a broken manifest, this one or another, may name it.
std::optional<BlobDigest> unshared_blob(const ModelName& name, const StoreListing& listing) {
  std::optional<BlobDigest> digest;
  for (const Manifest& model : listing.models)
    if (model.name == name) digest = model.digest;
  for (const Manifest& model : listing.models)
    if (digest && model.digest == *digest && model.name != name) return std::nullopt;
  return listing.broken.empty() ? digest : std::nullopt;
}

}  // namespace

// ---- import

Manifest Store::import(const fs::path& path, const ImportOptions& options) {
  const ModelName name = options.name ? *options.name : ModelName::parse(path.stem().string());
  check_weights(path, Links::follow);
  prepare();
  if (auto same = find_same(name, path, options.progress)) return *same;
  const FileDescriptor source = open_file(path, O_RDONLY);
  require_space(folder_, status_of(source, path).st_size, path);
  TemporaryFile copy(folder_ / "tmp");
  const BlobDigest digest = copy_and_hash(source, path, copy.fd(), copy.path(), options.progress);
  if (::fchmod(copy.fd().get(), 0444) != 0) throw system_error("change the mode of", copy.path());
  sync_file(copy.fd(), copy.path());
  fault_point("store_copied");
  const std::string from = options.source.empty() ? fs::absolute(path).string() : options.source;
  return publish(copy, {.name = name,
                        .digest = digest,
                        .bytes = status_of(copy.fd(), copy.path()).st_size,
                        .facts = check_weights(copy.path(),
                                               Links::refuse),  // again: the source may have changed under us
                        .source = printable(from, 4096),
                        .created = utc_now()});
}

// The manifest that is there already if it stands for the same bytes. Throws if it stands for others.
std::optional<Manifest> Store::find_same(const ModelName& name, const fs::path& path,
                                         const Progress& progress) const {
  if (!has(name)) return std::nullopt;
  const Manifest manifest = show(name);
  if (hash_file(open_file(path, O_RDONLY), path, progress) != manifest.digest) throw name_taken(manifest);
  if (!holds_blob(manifest.digest))
    return std::nullopt;  // the weights were lost or damaged: import heals them
  return manifest;
}

bool Store::holds_blob(const BlobDigest& digest) const {
  const fs::path path = blob_path(digest);
  const FileDescriptor blob(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  return blob && hash_file(blob, path, {}) == digest;
}

// The copy becomes the blob, then the manifest names it. Under the store's lock, so that no blob is removed as unnamed between
// the two.
Manifest Store::publish(TemporaryFile& copy, Manifest manifest) const {
  const FileDescriptor held = lock();
  const fs::path blob = blob_path(manifest.digest);
  if (!holds_blob(manifest.digest)) {
    rename_file(copy.path(), blob);
    copy.keep();
  }
  fault_point("store_renamed");
  sync_folder(folder_ / "blobs");
  manifest.verified = blob_state(status_of(open_file(blob, O_RDONLY | O_NOFOLLOW), blob));
  if (has(manifest.name) && show(manifest.name).digest != manifest.digest) throw name_taken(manifest);
  write_manifest(manifest);
  fault_point("store_published");
  return manifest;
}

void Store::write_manifest(const Manifest& manifest) const {
  write_file_atomic(manifest_path(manifest.name), to_text(to_json(manifest)) + "\n");
}

// Removes what killed imports left behind. While a manifest is broken, every blob may be one that it names.
void Store::clean() const {
  const FileDescriptor held = lock();
  const StoreListing listing = list();
  for (const fs::path& path : files_in(folder_ / "tmp"))
    if (is_import(path)) remove_if_unlocked(path);
  for (const fs::path& path : files_in(folder_ / "manifests"))
    if (path.filename().string().starts_with('.')) ::unlink(path.c_str());
  if (!listing.broken.empty()) return;
  for (const fs::path& path : files_in(folder_ / "blobs")) {
    const bool named = std::any_of(listing.models.begin(), listing.models.end(),
                                   [&](const Manifest& model) { return blob_path(model.digest) == path; });
    if (!named) remove_if_unlocked(path);
  }
}

// ---- folders and locks

void Store::prepare() const {
  for (const char* name : kFolders) {
    std::error_code failure;
    fs::create_directories(folder_ / name, failure);
    if (failure)
      throw make_error(ErrorCode::unavailable, "cannot make folder {}: {}", (folder_ / name).string(),
                       failure.message());
  }
  check_folders();
  clean();
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

// The blob, opened and locked against removal.
FileDescriptor Store::use_blob(const Manifest& manifest) const {
  const fs::path path = blob_path(manifest.digest);
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd && errno == ENOENT)
    throw make_error(ErrorCode::data_loss, "the weights of model {} are missing: {}", manifest.name.text(),
                     path.string());
  if (!fd) throw system_error("open", path);
  if (!try_lock(fd, Lock::shared) || status_of(fd, path).st_nlink == 0)
    throw make_error(ErrorCode::not_found, "model {} is being removed", manifest.name.text());
  return fd;
}

void Store::check_digest(const FileDescriptor& blob, const Manifest& manifest,
                         const Progress& progress) const {
  const fs::path path = blob_path(manifest.digest);
  const int64_t bytes = status_of(blob, path).st_size;
  if (bytes != manifest.bytes)
    throw make_error(ErrorCode::data_loss,
                     "the weights of model {} are damaged: {} must have {} bytes, has {}",
                     manifest.name.text(), path.string(), manifest.bytes, bytes);
  const BlobDigest digest = hash_file(blob, path, progress);
  if (digest != manifest.digest)
    throw make_error(ErrorCode::data_loss, "the weights of model {} are damaged: {} has sha256 {}",
                     manifest.name.text(), path.string(), digest.hex());
}

void Store::verify(const ModelName& name, const Progress& progress) const {
  const Manifest manifest = show(name);
  check_digest(use_blob(manifest), manifest, progress);
}

OpenModel Store::open(const ModelName& name) const {
  Manifest manifest = show(name);
  FileDescriptor use = use_blob(manifest);
  const fs::path path = blob_path(manifest.digest);
  if (const auto state = blob_state(status_of(use, path)); state != manifest.verified) {
    check_digest(use, manifest, {});
    manifest.verified = state;
    remember_verified(manifest);
  }
  auto file = open_weight_file(path, Links::refuse);
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

void Store::remove(const ModelName& name) {
  check_folders();
  if (!has(name)) throw no_model(name, folder_);
  const FileDescriptor held = lock();
  const std::optional<BlobDigest> digest = unshared_blob(name, list());
  const fs::path blob = digest ? blob_path(*digest) : fs::path();
  const FileDescriptor alone(digest ? ::open(blob.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
                                    : -1);
  if (alone && !try_lock(alone, Lock::exclusive))
    throw make_error(ErrorCode::failed_precondition, "model {} is in use by a running process: stop it first",
                     name.text())
        .with_reason("model_in_use");
  remove_file(manifest_path(name));
  sync_folder(folder_ / "manifests");
  fault_point("store_removed");
  if (digest) remove_file(blob);
}

// ---- what a person types

fs::path store_folder() { return neutrino_home() / "models"; }

namespace {

OpenModel open_path(const fs::path& path) {
  auto file = open_weight_file(path);
  const fs::path canonical = fs::canonical(path);
  const auto status = status_of(open_file(canonical, O_RDONLY), canonical);
  return {.name = path.stem().string(),
          .digest =
              to_hex(sha256(fmt::format("{}:{}:{}", canonical.string(), status.st_size, blob_state(status)))),
          .facts = read_facts(*file),
          .manifest = {},
          .file = std::move(file),
          .use = {}};
}

}  // namespace

OpenModel resolve_model(const Store& store, std::string_view name_or_path) {
  if (name_or_path.find('/') != name_or_path.npos || name_or_path.ends_with(".gguf"))
    return open_path(name_or_path);
  return store.open(ModelName::parse(name_or_path));
}

}  // namespace neutrino::weights
