// A control group for one replica: what memory and processor time it may take, how many processes it may have, and the surest way
// to end them all. Version 1 (a hierarchy for each controller), version 2 (one for all) and mixtures of both.
//
// A group is made beneath the one that the caller is in. Where that is not allowed (no root, no delegation, a read-only mount), the
// replica runs without these limits and note() says which and why: limits are a promise to its neighbours, not to itself.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace neutrino::cloud {

struct CgroupLimits {
  int64_t memory_bytes = 0;  // 0: none
  double cores = 0;          // 0: none
  int64_t processes = 0;     // 0: none
};

class Cgroup {
 public:
  Cgroup() = default;
  // Never throws; what does not work is in note(). `name`: one path component. `root` stands before /proc and /sys: a test gives a
  // folder of its own.
  static Cgroup make(const std::string& name, const CgroupLimits& limits,
                     const std::filesystem::path& root = "/");
  // One that another process made.
  static Cgroup found(std::vector<std::filesystem::path> folders);

  const std::vector<std::filesystem::path>& folders() const { return folders_; }  // one, or one a controller
  std::vector<std::filesystem::path> enter()
      const;  // files that a process writes itself into: SpawnOptions::enter
  const std::string& note() const { return note_; }  // empty: all limits that were asked for hold

  int64_t kills_for_memory() const;  // how many processes the kernel killed for the memory limit
  // SIGKILL to all in it, until none is left or `patience_ms` is over; then the group is removed. False: something is left.
  bool kill_and_remove(int64_t patience_ms);

 private:
  std::vector<std::filesystem::path> folders_;
  std::string note_;
};

}  // namespace neutrino::cloud
