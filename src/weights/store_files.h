// What the store and the downloads do with files: open, hash, copy, look at, lock.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "weights/manifest.h"

namespace neutrino::weights {

using Progress = std::function<void(int64_t bytes_done, int64_t bytes_total)>;

// Never follows a link where `flags` hold O_NOFOLLOW; never blocks on a pipe. Throws Error.
FileDescriptor open_file(const std::filesystem::path& path, int flags);
struct stat status_of(const FileDescriptor& fd, const std::filesystem::path& path);
void require_regular(const FileDescriptor& fd, const std::filesystem::path& path);
void sync_file(const FileDescriptor& fd, const std::filesystem::path& path);
void rename_file(const std::filesystem::path& from, const std::filesystem::path& to);
void remove_file(const std::filesystem::path& path);  // nothing where it is not there
void make_folders(const std::filesystem::path& path);
std::vector<std::filesystem::path> files_in(
    const std::filesystem::path& folder);  // by name; none: it is not there

// An inode's number and times change when somebody writes to it; while they stay, the bytes are those that were verified.
std::string blob_state(const struct stat& status);

// Reads to the end, giving each piece to `use`. Returns the bytes read.
int64_t read_pieces(const FileDescriptor& fd, const std::filesystem::path& path, const Progress& progress,
                    const std::function<void(std::string_view)>& use);
BlobDigest hash_file(const FileDescriptor& fd, const std::filesystem::path& path, const Progress& progress);

int64_t free_bytes(const std::filesystem::path& folder);
// Throws Error{resource_exhausted} with the figures.
void require_space(const std::filesystem::path& folder, int64_t bytes, std::string_view what);

// Removes the file or folder, unless a process holds its lock.
void remove_if_unlocked(const std::filesystem::path& path);

// A new file or folder, locked from before anybody could take it for a dead process's, and removed again unless it was kept.
class TemporaryEntry {
 public:
  enum class Kind { file, folder };
  TemporaryEntry(const std::filesystem::path& folder, std::string_view prefix, Kind kind);
  ~TemporaryEntry();
  TemporaryEntry(const TemporaryEntry&) = delete;
  TemporaryEntry& operator=(const TemporaryEntry&) = delete;

  const std::filesystem::path& path() const { return path_; }
  FileDescriptor& fd() { return fd_; }
  void keep() { fd_ = FileDescriptor(); }  // and unlocks it

 private:
  std::filesystem::path path_;
  FileDescriptor fd_;
};

}  // namespace neutrino::weights
