// Files: read-only maps, whole reads, atomic writes, locks, and where neutrino keeps its things.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace neutrino {

// $NEUTRINO_HOME, else $XDG_DATA_HOME/neutrino, else ~/.local/share/neutrino. Not created here.
std::filesystem::path neutrino_home();

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

enum class Links { follow, refuse };  // refuse: O_NOFOLLOW, for files in the store

// A file mapped PROT_READ. Only regular files are accepted; throws Error{not_found, permission_denied, invalid_argument}.
class MappedFile {
 public:
  static MappedFile open(const std::filesystem::path& path, Links links = Links::follow);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  void release_pages() const;  // takes what was read out of this process's memory; it is read again on demand
  int fd() const { return fd_.get(); }  // stays open: a shared lock on it says "in use"

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  FileDescriptor fd_;
};

// Reads a regular file of at most `limit` bytes; throws Error.
std::string read_file(const std::filesystem::path& path, size_t limit, Links links = Links::follow);

// Temporary file in the same folder, write, fsync, rename, fsync of the folder: a reader sees the old file or the new one.
void write_file_atomic(const std::filesystem::path& path, std::string_view content, int mode = 0644);

void sync_folder(const std::filesystem::path& folder);

// Writes all of it; throws Error{resource_exhausted} when the disk is full.
void write_all(int fd, std::string_view content, const std::filesystem::path& path);

// flock(2): held by the open file, released when its last descriptor is closed or its process ends, however it ends.
enum class Lock { shared, exclusive };
bool try_lock(const FileDescriptor& fd, Lock lock);
void wait_for_lock(const FileDescriptor& fd, Lock lock, const std::filesystem::path& path);

// "cannot <action> <path>: <what errno says>", with the code that errno stands for.
Error system_error(std::string_view action, const std::filesystem::path& path);

}  // namespace neutrino
