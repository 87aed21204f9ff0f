// Repacked weights on disk, so that the next start reads them instead of making them again.
//
// A file holds the matrices of one model in the order in which they are loaded, each behind a header with a signature (types,
// shape, layout), its size and a checksum. It is a cache and nothing else: what does not fit is made afresh and the file
// written anew, whole or not at all (temporary file, rename). Its name must tell models apart; the signature tells layouts
// apart. Read into huge pages rather than mapped: the pages of a mapped file are small, and a step would lose to their
// translation what a start gains.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <future>
#include <memory>
#include <span>
#include <vector>

#include "base/file.h"
#include "compute/cpu/thread_team.h"

namespace neutrino::compute::cpu {

// Files that a folder of caches keeps, those used last.
constexpr int64_t kWeightCacheFiles = 8;

class WeightCache {
 public:
  // Empty: nothing is read or kept.
  explicit WeightCache(std::filesystem::path file);
  ~WeightCache();  // gives a file that is being written two seconds, then gives it up
  WeightCache(const WeightCache&) = delete;

  // Reads the next matrix of this load. False if the file has another one in its place, or none: `out` is zero then.
  bool read(uint64_t signature, std::span<uint8_t> out, ThreadTeam& team);
  // The next matrix, whether read or made, for write().
  void keep(uint64_t signature, std::shared_ptr<const uint8_t> data, int64_t bytes);
  // All matrices were loaded. Writes the file on a thread of its own, unless all of them came from it. A failure is logged.
  void write();

 private:
  struct Kept {
    uint64_t signature;
    std::shared_ptr<const uint8_t> data;
    int64_t bytes;
  };
  bool read_next(uint64_t signature, std::span<uint8_t> out, ThreadTeam& team);
  void write_file();
  void write_matrix(int fd, const Kept& matrix, const std::filesystem::path& path);

  std::filesystem::path path_;
  FileDescriptor file_;  // open as long as it fits
  int64_t offset_ = 0;   // of the next matrix
  std::vector<Kept> kept_;
  std::future<void> written_;
  std::atomic<bool> stopping_{false};
};

}  // namespace neutrino::compute::cpu
