// An operator's calls of the scripted model: sleep is a state, a kept prefix is a file with a line of text.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "chat/model_admin.h"

namespace neutrino::chat::testing {

class FakeModelAdmin final : public ModelAdmin {
 public:
  std::vector<std::string>
  take_asked();  // prefixes saved and restored since the last call, with tokens and salts

  SleepState sleep_state() const override;
  void fall_asleep() override { set_state(SleepState::falling_asleep); }
  SleepReport sleep() override;  // 1 byte of keys and values, 2 of weights
  void wake_up() override { set_state(SleepState::awake); }
  PrefixReport save_prefix(const std::filesystem::path& file, const std::vector<int32_t>& tokens,
                           const std::string& cache_salt, int64_t bytes_max) override;
  // Throws Error{not_found} where there is no such file.
  PrefixReport restore_prefix(const std::filesystem::path& file, const std::string& cache_salt,
                              int64_t bytes_max) override;

 private:
  void set_state(SleepState state);

  mutable std::mutex mutex_;  // guards both
  SleepState state_ = SleepState::awake;
  std::vector<std::string> asked_;
};

}  // namespace neutrino::chat::testing
