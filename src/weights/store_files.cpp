#include "weights/store_files.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/error.h"
#include "base/memory.h"
#include "base/random.h"

namespace neutrino::weights {
namespace fs = std::filesystem;

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

void require_regular(const FileDescriptor& fd, const fs::path& path) {
  if (!S_ISREG(status_of(fd, path).st_mode))
    throw make_error(ErrorCode::invalid_argument, "{} must be a regular file", path.string());
}

void sync_file(const FileDescriptor& fd, const fs::path& path) {
  if (::fsync(fd.get()) != 0) throw system_error("sync", path);
}

void rename_file(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) throw system_error("rename to", to);
}

void remove_file(const fs::path& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) throw system_error("remove", path);
}

void make_folders(const fs::path& path) {
  std::error_code failure;
  fs::create_directories(path, failure);
  if (failure)
    throw make_error(ErrorCode::unavailable, "cannot make folder {}: {}", path.string(), failure.message());
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

std::string blob_state(const struct stat& status) {
  return fmt::format("{}:{}.{:09}:{}.{:09}", status.st_ino, status.st_mtim.tv_sec, status.st_mtim.tv_nsec,
                     status.st_ctim.tv_sec, status.st_ctim.tv_nsec);
}

int64_t read_pieces(const FileDescriptor& fd, const fs::path& path, const Progress& progress,
                    const std::function<void(std::string_view)>& use) {
  const int64_t total = status_of(fd, path).st_size;
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
  read_pieces(fd, path, progress, [&](std::string_view piece) { hash.update(piece); });
  return BlobDigest(hash.finish());
}

int64_t free_bytes(const fs::path& folder) {
  struct statvfs status {};
  if (::statvfs(folder.c_str(), &status) != 0) throw system_error("read the free space of", folder);
  return static_cast<int64_t>(status.f_bavail * status.f_frsize);
}

void require_space(const fs::path& folder, int64_t bytes, std::string_view what) {
  constexpr int64_t kReserve = 64 << 10;  // manifests and folders
  const int64_t free = free_bytes(folder);
  if (bytes <= free - kReserve) return;
  throw make_error(ErrorCode::resource_exhausted, "{} needs {} in {}, where only {} are free", what,
                   size_text(bytes), folder.string(), size_text(free))
      .with_reason("disk_full");
}

void remove_if_unlocked(const fs::path& path) {
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd || !try_lock(fd, Lock::exclusive)) return;
  std::error_code ignored;
  fs::remove_all(path, ignored);  // removes links, does not follow them
}

TemporaryEntry::TemporaryEntry(const fs::path& folder, std::string_view prefix, Kind kind) {
  do {
    path_ = folder / fmt::format("{}{:016x}", prefix, system_entropy());
    if (kind == Kind::folder && ::mkdir(path_.c_str(), 0700) != 0) throw system_error("make folder", path_);
    fd_ = kind == Kind::folder ? open_file(path_, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
                               : open_file(path_, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW);
    wait_for_lock(fd_, Lock::exclusive, path_);
  } while (status_of(fd_, path_).st_nlink == 0);  // cleaned away between open and lock
}

TemporaryEntry::~TemporaryEntry() {
  std::error_code ignored;
  if (fd_) fs::remove_all(path_, ignored);
}

}  // namespace neutrino::weights
