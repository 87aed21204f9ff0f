// Notices that files have changed, by asking stat(2) now and then: works for editors that replace a file, for mounted secrets
// whose symlinks are swapped, and for network file systems, where notifications do not.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace neutrino::net {

class FileWatch {
 public:
  // The files as they are now count as seen.
  explicit FileWatch(std::vector<std::filesystem::path> files);

  // True once for each change: when the files differ from those seen and stayed the same since the poll before, so that
  // a file is not read while it is being written.
  bool poll();

 private:
  struct Look {
    int64_t device = 0, inode = 0, size = -1, modified_ns = 0;  // size -1: not there
    bool operator==(const Look&) const = default;
  };
  std::vector<Look> look() const;

  std::vector<std::filesystem::path> files_;
  std::vector<Look> seen_, last_;
};

}  // namespace neutrino::net
