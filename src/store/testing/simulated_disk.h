// A disk that forgets what was not forced to it, for tests of power cuts.
//
// While one of these exists, every call of this program that changes a file in one folder (open, write, truncate, sync, rename,
// unlink; SQLite's calls too) is noted here as well as done. What a file holds becomes durable when that file is synced, and
// that it has its name when its folder is. At the n-th call the power is cut: image() gives what a machine might find afterwards,
// that is what was durable and, as a disk may have written some of the rest by itself, an arbitrary part of what was not, torn at
// any sector. The program itself goes on as if nothing had happened; what it does after the cut does not count.
//
// The functions that stand in for libc's are in simulated_disk_test.cpp, so that they are in test programs only.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"

namespace neutrino::store::testing {

class SimulatedDisk {
 public:
  // What is in `folder` is durable. One at a time. `at_cut` is called at the cut, in whichever thread made the call.
  SimulatedDisk(
      const std::filesystem::path& folder, uint64_t seed, int64_t calls_until_cut,
      std::function<void()> at_cut = [] {});
  ~SimulatedDisk();
  SimulatedDisk(const SimulatedDisk&) = delete;

  bool is_cut() const;
  int64_t calls() const;
  // Writes the folder as it is found after the cut. Cuts now if that has not happened.
  void write_image(const std::filesystem::path& folder);

  // ---- for the functions that stand in for libc's

  struct File {
    struct Step {  // a write at `offset`, or a truncation to `offset` bytes
      bool truncates = false;
      int64_t offset = 0;
      std::string bytes = {};
    };
    std::string durable;
    std::vector<Step> steps;  // since the last sync
  };
  using Lock = std::unique_lock<std::recursive_mutex>;

  static Lock lock_active(SimulatedDisk*& disk);  // null: none exists
  bool holds(const char* path) const;
  void about_to_call();
  void opened(int fd, const char* path, bool existed, bool truncates);
  void closed(int fd);
  bool knows(int fd) const { return files_by_fd_.contains(fd) || fd == folder_fd_; }
  void wrote(int fd, int64_t offset, std::string bytes);
  void truncated(int fd, int64_t size);
  void synced(int fd);
  void unlinked(const char* path);
  void renamed(const char* from, const char* to);

 private:
  using FilePointer = std::shared_ptr<File>;
  struct NameStep {
    std::string name;
    FilePointer file;  // null: the name is gone
  };
  void cut();
  std::string image_of(const File& file, bool keeps_some);

  std::string folder_;
  Random random_;
  int64_t calls_ = 0, calls_until_cut_;
  std::function<void()> at_cut_;
  std::map<std::string, FilePointer> names_, durable_names_;
  std::vector<NameStep> name_steps_;  // since the folder's last sync
  std::map<int, FilePointer> files_by_fd_;
  int folder_fd_ = -1;
  std::optional<std::map<std::string, std::string>> image_;
};

}  // namespace neutrino::store::testing
