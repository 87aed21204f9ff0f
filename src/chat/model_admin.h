// What an operator may ask of a model beside answers: to sleep, and to keep the keys and values of a prefix on disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace neutrino::chat {

enum class SleepState : uint8_t { awake, falling_asleep, asleep };

// What went back to the operating system.
struct SleepReport {
  int64_t kv_bytes = 0;      // pages of keys, values and states that were in use
  int64_t weight_bytes = 0;  // of weights
  std::string kept = {};     // what was not given back, and why; empty: nothing
};

struct PrefixReport {
  int64_t tokens = 0;  // of the prefix, in whole blocks
  int64_t bytes = 0;   // of the file
};

class ModelAdmin {
 public:
  virtual ~ModelAdmin() = default;

  virtual SleepState sleep_state() const = 0;
  // From now on generate() throws Error{unavailable, "sleeping"}; what runs goes on.
  virtual void fall_asleep() = 0;
  // Gives memory back; the prefix cache is empty afterwards. Throws Error{failed_precondition} while something runs.
  virtual SleepReport sleep() = 0;
  // Also ends fall_asleep().
  virtual void wake_up() = 0;

  // Writes the keys and values of the longest prefix of `tokens` that is in the prefix cache under that salt. Throws
  // Error{failed_precondition}: nothing of it is there; Error{unimplemented}: the model keeps windows or states;
  // Error{resource_exhausted}: the file would be larger than that.
  virtual PrefixReport save_prefix(const std::filesystem::path& file, const std::vector<int32_t>& tokens,
                                   const std::string& cache_salt, int64_t bytes_max) = 0;
  // Puts such a file into the prefix cache under the salt. Throws Error{data_loss}: the file is damaged;
  // Error{failed_precondition}: it is of another model or another kind of cache.
  virtual PrefixReport restore_prefix(const std::filesystem::path& file, const std::string& cache_salt,
                                      int64_t bytes_max) = 0;
};

}  // namespace neutrino::chat
