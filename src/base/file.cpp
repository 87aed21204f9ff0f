#include "base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "base/random.h"

namespace neutrino {
namespace fs = std::filesystem;
namespace {

FileDescriptor open_regular(const fs::path& path, Links links, struct stat& status) {
  FileDescriptor fd(
      ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | (links == Links::refuse ? O_NOFOLLOW : 0)));
  if (!fd) throw system_error("open", path);
  if (::fstat(fd.get(), &status) != 0) throw system_error("stat", path);
  if (!S_ISREG(status.st_mode))
    throw make_error(ErrorCode::invalid_argument, "{} must be a regular file, got a {}", path.string(),
                     S_ISDIR(status.st_mode) ? "folder" : "device, pipe or socket");
  return fd;
}

}  // namespace

Error system_error(std::string_view action, const fs::path& path) {
  const int number = errno;
  ErrorCode code = ErrorCode::unavailable;
  if (number == ENOENT || number == ENOTDIR) code = ErrorCode::not_found;
  if (number == EACCES || number == EPERM) code = ErrorCode::permission_denied;
  if (number == ENOSPC || number == EDQUOT || number == EFBIG) code = ErrorCode::resource_exhausted;
  if (number == ELOOP) code = ErrorCode::invalid_argument;
  return make_error(code, "cannot {} {}: {}", action, path.string(), std::strerror(number));
}

void write_all(int fd, std::string_view content, const fs::path& path) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw system_error("write", path);
    content.remove_prefix(static_cast<size_t>(written));
  }
}

fs::path neutrino_home() {
  if (const char* home = std::getenv("NEUTRINO_HOME"); home && *home) return home;
  if (const char* data = std::getenv("XDG_DATA_HOME"); data && *data) return fs::path(data) / "neutrino";
  const char* home = std::getenv("HOME");
  return fs::path(home && *home ? home : "/root") / ".local/share/neutrino";
}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = other.release();
  }
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

MappedFile MappedFile::open(const fs::path& path, Links links) {
  struct stat status {};
  MappedFile file;
  file.fd_ = open_regular(path, links, status);
  file.size_ = static_cast<size_t>(status.st_size);
  if (file.size_ == 0) return file;
  void* data = ::mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, file.fd_.get(), 0);
  if (data == MAP_FAILED) throw system_error("map", path);
  file.data_ = static_cast<const std::byte*>(data);
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      fd_(std::move(other.fd_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(fd_, other.fd_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release_pages() const {
  if (data_) ::madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

std::string read_file(const fs::path& path, size_t limit, Links links) {
  struct stat status {};
  const FileDescriptor fd = open_regular(path, links, status);
  std::string content;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw system_error("read", path);
    if (got == 0) return content;
    content.append(buffer, static_cast<size_t>(got));
    if (content.size() > limit)
      throw make_error(ErrorCode::invalid_argument, "{} must be at most {} bytes", path.string(), limit);
  }
}

void write_file_atomic(const fs::path& path, std::string_view content, int mode) {
  const fs::path temporary =
      path.parent_path() / fmt::format(".{}.{:016x}.tmp", path.filename().string(), system_entropy());
  try {
    FileDescriptor fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
    if (!fd) throw system_error("create", temporary);
    write_all(fd.get(), content, temporary);
    if (::fsync(fd.get()) != 0) throw system_error("sync", temporary);
    if (::rename(temporary.c_str(), path.c_str()) != 0) throw system_error("rename to", path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_folder(path.parent_path());
}

void sync_folder(const fs::path& folder) {
  const fs::path target = folder.empty() ? fs::path(".") : folder;
  const FileDescriptor fd(::open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) throw system_error("sync folder", target);
}

bool try_lock(const FileDescriptor& fd, Lock lock) {
  return ::flock(fd.get(), (lock == Lock::shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0;
}

void wait_for_lock(const FileDescriptor& fd, Lock lock, const fs::path& path) {
  while (::flock(fd.get(), lock == Lock::shared ? LOCK_SH : LOCK_EX) != 0)
    if (errno != EINTR) throw system_error("lock", path);
}

}  // namespace neutrino
