#include "net/file_watch.h"

#include <sys/stat.h>

#include <utility>

namespace neutrino::net {

FileWatch::FileWatch(std::vector<std::filesystem::path> files)
    : files_(std::move(files)), seen_(look()), last_(seen_) {}

std::vector<FileWatch::Look> FileWatch::look() const {
  std::vector<Look> looks;
  for (const std::filesystem::path& file : files_) {
    struct stat info {};
    Look& result = looks.emplace_back();
    if (::stat(file.c_str(), &info) != 0) continue;
    result = {.device = static_cast<int64_t>(info.st_dev),
              .inode = static_cast<int64_t>(info.st_ino),
              .size = info.st_size,
              .modified_ns = info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec};
  }
  return looks;
}

bool FileWatch::poll() {
  std::vector<Look> now = look();
  const bool at_rest = now == last_;
  last_ = std::move(now);
  if (!at_rest || last_ == seen_) return false;
  seen_ = last_;
  return true;
}

}  // namespace neutrino::net
